"""Which training comes next, and where it begins: runs that differ only in the cross stage share one intra stage."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

from mgot.analysis.ablation.runs import Run
from mgot.engine.resume.checkpoint import INTRA

LOOK_AGAIN = 1.0  # seconds


class Agenda:
    """The runs that are left, each handed out once, to several threads.

    Of the runs that share an intra stage, the first one trains it. The others wait for its end and start from there.
    Meanwhile a thread gets another run. If the first one ends without saving the stage, the next one trains it.

    Args:
        left: the runs to train, in order. Those that have a checkpoint already come first.
        known: all runs of the grid. A finished one may have the intra stage that others need.
        share: False: every run trains its own intra stage, and none waits.
    """

    def __init__(self, left: Iterable[Run], known: Sequence[Run], *, share: bool = True) -> None:
        self._left = sorted(left, key=lambda run: not run.begun())  # what was begun may give an intra stage soon
        self._known, self._share = known, share
        self._training: list[Run] = []
        self._stopped = False
        self._change = threading.Condition()

    def take(self) -> tuple[Run, Path | None]:
        """The next run that can start, and the checkpoint that it starts from; None if it starts by itself.

        Waits while all runs that are left need an intra stage that is not there yet. Call :meth:`ended` for each run.

        Raises:
            CancelledError: the agenda was stopped, or no run is left.
        """
        with self._change:
            while self._left and not self._stopped:
                for run in self._left:
                    donor = self._donor(run)
                    if donor is not None or not self._waits(run):
                        self._left.remove(run)
                        self._training.append(run)
                        return run, donor
                self._change.wait(LOOK_AGAIN)  # nothing reports a new file
            raise CancelledError

    def ended(self, run: Run) -> None:
        """Say that a run has ended, well or not."""
        with self._change:
            self._training.remove(run)
            self._change.notify_all()

    def stop(self) -> None:
        """Hand out no more runs."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def _group(self, run: Run) -> list[Run]:
        """The other runs with the same intra stage; none if the run continues from its own checkpoint."""
        if not self._share or not run.config.intra or run.begun():
            return []
        return [
            other
            for other in self._known
            if other != run and (other.config.intra, other.seed) == (run.config.intra, run.seed)
        ]

    def _donor(self, run: Run) -> Path | None:
        files = (other.folder / f"{INTRA}.pth" for other in self._group(run))
        return next((path for path in files if path.is_file()), None)

    def _waits(self, run: Run) -> bool:
        return any(other in self._training for other in self._group(run))
