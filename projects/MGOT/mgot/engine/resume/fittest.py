"""The epoch to keep, chosen without labels: the one with the fittest matches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from mgot.distributed import on_main
from mgot.engine.resume.checkpoint import FITTEST, layer_differences, load_tensors
from mgot.engine.watch.evaluator import score_model
from mgot.errors import UserError
from mgot.evaluation.results import ResultsFile, format_rows
from mgot.files import replacing
from mgot.forms import figure, fits, whole
from mgot.matching import Matching
from mgot.modeling.weights import plain_tensor
from mgot.principles import fitness

logger = logging.getLogger("mgot")


class FittestHook(HookBase):
    """Keeps the weights of the fittest epoch in ``fittest.pth``, and scores them beside the last epoch's. [ours]

    The matching at an epoch's start measures the weights at the end of the epoch before. After the last epoch there is
    no such matching, so the images are labelled and matched once more. All epochs of the cross-modality stage take
    part. If the disk is full, the file is skipped with a warning, and training continues.

    Args:
        folder: OUTPUT_DIR.
        results: gets the rows of the stage "fittest".
        cross_start: first epoch of the cross-modality stage.
        match_again: labels and matches the training images with the current weights, as the start of that epoch would;
            called in every process.
    """

    in_checkpoint = True

    def __init__(
        self, folder: Path, results: ResultsFile, *, cross_start: int, match_again: Callable[[int], Matching]
    ) -> None:
        self._path, self._results, self._cross_start = folder / FITTEST, results, cross_start
        self._match_again = match_again
        self._best = float("-inf")

    def before_train(self) -> None:
        if self.trainer.start_iter == 0 or self.trainer.donor is not None:  # a run that begins
            if comm.is_main_process():
                self._path.unlink(missing_ok=True)
        elif self._path.is_file():
            kept = self._kept(self._path)
            if layer_differences(kept["model"], self.trainer.network.state_dict()):
                raise _no_fittest_epoch(self._path)
            self._best = kept["fitness"]

    def before_epoch(self) -> None:
        trainer = self.trainer
        if trainer.epoch > self._cross_start and comm.is_main_process():
            self._compare(trainer.epoch - 1, trainer.state.epoch.matching, "matching/fitness")

    def after_epoch(self) -> None:
        trainer = self.trainer
        if trainer.epoch + 1 == trainer.max_epoch > self._cross_start:
            self._look_at_the_end()
            if on_main(self._path.is_file):
                self._score()

    def _look_at_the_end(self) -> None:
        """Label and match once more, to measure the last epoch's weights."""
        trainer, start = self.trainer, time.perf_counter()
        matching = self._match_again(trainer.epoch + 1)
        seconds = time.perf_counter() - start
        trainer.storage.put_scalar("seconds/fittest", seconds, smoothing_hint=False)
        if comm.is_main_process():
            measured = self._compare(trainer.epoch, matching, "matching/final_fitness")
            logger.info(f"epoch {trainer.epoch} had a fitness of {measured:.3f}, labelled again in {seconds:.0f} s")

    def _compare(self, epoch: int, matching: Matching, name: str) -> float:
        """Log the fitness of an epoch's weights under a name, and keep them if none were fitter before."""
        trainer, measured = self.trainer, fitness(matching)
        trainer.storage.put_scalar(name, measured, smoothing_hint=False)
        if measured > self._best:
            self._best = measured
            model, about = trainer.network.state_dict(), trainer.checkpointer.about
            self._keep({"model": model, "about": about, "epoch": epoch, "fitness": measured})
        return measured

    def _keep(self, content: dict[str, Any]) -> None:
        try:
            with replacing(self._path) as stream:
                torch.save(content, stream)
        except OSError as error:
            logger.warning(f"{self._path} could not be written ({error}): training continues")

    def _score(self) -> None:
        """Score the weights that are kept; afterwards the network has its own weights again."""
        trainer, start = self.trainer, time.perf_counter()
        kept = on_main(lambda: self._kept(self._path))
        last = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        trainer.network.load_state_dict(kept["model"])
        rows = score_model(trainer.cfg, trainer.network).rows
        trainer.network.load_state_dict(last)
        if comm.is_main_process():
            rows = [{**row, "epoch": kept["epoch"], "fitness": kept["fitness"]} for row in rows]
            self._results.add("fittest", rows, time.perf_counter() - start)
            logger.info(f"fittest epoch: {kept['epoch']}, in {self._path}")
            logger.info(format_rows([{"stage": "fittest", **row} for row in rows]))

    @staticmethod
    def _kept(path: Path) -> dict[str, Any]:
        content: dict[str, Any] = load_tensors(path)
        if not fits(content, {"model": {...: plain_tensor}, "epoch": whole, "fitness": figure}):
            raise _no_fittest_epoch(path)
        return content


def _no_fittest_epoch(path: Path) -> UserError:
    return UserError(f"{path}: holds no fittest epoch of this run: remove the file and go on with --resume")
