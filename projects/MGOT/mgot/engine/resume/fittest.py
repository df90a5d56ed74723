"""The epoch to keep, chosen without a label: the one whose matches look fittest."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from mgot.distributed import on_main
from mgot.engine.epoch import EpochState
from mgot.engine.resume.checkpoint import load_tensors
from mgot.errors import UserError
from mgot.evaluation.results import ResultsFile, format_rows
from mgot.files import replacing
from mgot.principles import fitness

logger = logging.getLogger("mgot")

FITTEST = "fittest.pth"


class FittestHook(HookBase):
    """Keeps the weights of the fittest epoch in ``fittest.pth``, and scores them beside the last epoch's. [ours]

    An epoch's matching shows how fit the weights are that the epoch before left. Those of the cross-modality stage
    take part, but for the last epoch's, which no later matching looks at: they are scored as "final" anyway. A full
    disk costs the file, with a warning, and not the run.

    Args:
        folder: OUTPUT_DIR.
        results: gets the rows of the stage "fittest".
        cross_start: first epoch of the cross-modality stage.
    """

    labels_epoch = True

    def __init__(self, folder: Path, results: ResultsFile, *, cross_start: int) -> None:
        self._path, self._results, self._cross_start = folder / FITTEST, results, cross_start
        self._best = float("-inf")

    def before_train(self) -> None:
        if self.trainer.start_iter == 0 or self.trainer.donor is not None:  # a run that begins
            if comm.is_main_process():
                self._path.unlink(missing_ok=True)
        elif self._path.is_file():
            self._best = self._kept(self._path)["fitness"]

    def before_epoch(self) -> None:
        trainer = self.trainer
        state: EpochState = trainer.epoch_state
        if trainer.epoch <= self._cross_start or not comm.is_main_process():
            return
        assert state.matching is not None
        measured = fitness(state.matching)
        trainer.storage.put_scalar("matching/fitness", measured, smoothing_hint=False)
        if measured <= self._best:
            return
        self._best = measured
        model, about = trainer.network.state_dict(), trainer.checkpointer.about
        content = {"model": model, "about": about, "epoch": trainer.epoch - 1, "fitness": measured}
        try:
            with replacing(self._path) as stream:
                torch.save(content, stream)
        except OSError as error:
            logger.warning(f"{self._path} could not be written ({error}): the run goes on")

    def after_epoch(self) -> None:
        trainer = self.trainer
        if trainer.epoch + 1 < trainer.max_epoch or not on_main(self._path.is_file):
            return
        start = time.perf_counter()
        kept = on_main(lambda: self._kept(self._path))
        last = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        trainer.network.load_state_dict(kept["model"])
        rows = trainer.test(trainer.cfg, trainer.network).get("rows", [])
        trainer.network.load_state_dict(last)
        if comm.is_main_process():
            rows = [{**row, "epoch": kept["epoch"], "fitness": kept["fitness"]} for row in rows]
            self._results.add("fittest", rows, time.perf_counter() - start)
            logger.info(f"fittest epoch: {kept['epoch']}, in {self._path}")
            logger.info(format_rows([{"stage": "fittest", **row} for row in rows]))

    @staticmethod
    def _kept(path: Path) -> dict[str, Any]:
        content: dict[str, Any] = load_tensors(path)
        if not isinstance(content, dict) or not {"model", "epoch", "fitness"} <= set(content):
            raise UserError(f"{path}: holds no fittest epoch: remove the file and go on with --resume")
        return content
