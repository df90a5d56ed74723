"""How often each part of a run comes: epochs, steps, scorings and files. Only the config is needed."""

from __future__ import annotations

from typing import NamedTuple

from fastreid.config import CfgNode

from mgot.engine.resume.fork import writes_intra
from mgot.engine.schedule.cross import cross_start_epoch


class Schedule(NamedTuple):
    """Counts of a whole run.

    Attributes:
        intra, cross: epochs of each stage that the run trains itself.
        steps: of an epoch.
        scorings: of the test images, the fittest epoch's included.
        saves: checkpoints written.
        kept: checkpoints on the disk at once, the one being written included.
        fittest: how often the fittest epoch's weights may be written; 0 if the run does not look for it.
    """

    intra: int
    cross: int
    steps: int
    scorings: int
    saves: int
    kept: int
    fittest: int

    @property
    def epochs(self) -> int:
        """Of both stages."""
        return self.intra + self.cross

    @property
    def labellings(self) -> int:
        """How often all images are extracted, clustered and matched, once more at the end for the last fitness."""
        return self.epochs + bool(self.fittest)


def schedule_of(cfg: CfgNode) -> Schedule:
    """The counts of a new run, from another run's intra stage if MGOT.CROSS_STAGE.FROM says so."""
    end = cfg.SOLVER.MAX_EPOCH
    cross_start = min(cross_start_epoch(cfg), end)
    first = cross_start if cfg.MGOT.CROSS_STAGE.FROM else 0
    intra, cross = cross_start - first, end - cross_start
    asked = cfg.MGOT.TEST.STAGES
    fittest = cross if "fittest" in asked else 0
    within = [epoch + 1 for epoch in range(first, end - 1)]  # finished epochs, without the last
    period = cfg.TEST.EVAL_PERIOD
    scorings = 1 + ("initial" in asked and first == 0) + bool(fittest)
    scorings += sum("intra" in asked if done == cross_start else period > 0 and done % period == 0 for done in within)
    saves = sum(done % cfg.SOLVER.CHECKPOINT_PERIOD == 0 for done in within) + 1 + writes_intra(cfg)
    kept = cfg.MGOT.CHECKPOINT.KEEP + writes_intra(cfg) + 2
    return Schedule(intra, cross, cfg.MGOT.ITERS_PER_EPOCH, scorings, saves, kept, fittest)
