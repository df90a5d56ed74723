"""Hooks that record each epoch: a line on the terminal, and the data for pictures and reports."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from mgot.analysis.diagnostics.images import write_images
from mgot.analysis.diagnostics.record import forget_records, record_epoch, write_record
from mgot.data.items import identities
from mgot.data.loaders import data_root
from mgot.engine.epoch import EpochState

logger = logging.getLogger("mgot")

_LINE = (
    "{visible/clusters:.0f} v {infrared/clusters:.0f} r clusters",
    "out {visible/outliers:.1%} {infrared/outliers:.1%}",
    "ARI {truth/visible_ari:.2f} {truth/infrared_ari:.2f}",
    "matched right {truth/matching_accuracy:.2f}",
    "fair {fairness/v_c:.2f} {fairness/r_c:.2f}",
    "loss {total_loss:.2f}",
    "lr {lr:.1e}",
    "{images_per_second:.0f} images/s",
    "{elapsed:.0f} s",
)


class RecordHook(HookBase):
    """At each epoch's start, after the matching: write the epoch's record and, once, the list of its images.

    Args:
        run: the run's folder.
        cross_start: first epoch of the cross-modality stage.
    """

    in_checkpoint = True

    def __init__(self, run: Path, *, cross_start: int) -> None:
        self._run, self._cross_start = run, cross_start

    def before_train(self) -> None:
        if not comm.is_main_process():
            return
        if self.trainer.start_iter == 0 or self.trainer.donor is not None:
            forget_records(self._run)
        loader = self.trainer.data_loader
        items, n_visible = loader.dataset.items, loader.n_visible
        write_images(self._run, data_root(), items[:n_visible], items[n_visible:])

    def before_epoch(self) -> None:
        if not comm.is_main_process():
            return
        start = time.perf_counter()
        trainer = self.trainer
        state: EpochState = trainer.state.epoch
        assert state.matching is not None and state.seen is not None
        truth, n_visible = identities(trainer.data_loader.dataset.items), trainer.data_loader.n_visible
        record = record_epoch(
            state.epoch,
            cross=state.epoch >= self._cross_start,
            features=(state.f_v, state.f_r),
            labels=(state.labels.visible, state.labels.infrared),
            identities=(truth[:n_visible], truth[n_visible:]),
            prototypes=(torch.as_tensor(state.seen.visible), torch.as_tensor(state.seen.infrared)),
            majorities=(state.identity_v, state.identity_r),
            matching=state.matching,
        )
        write_record(self._run, record)
        trainer.storage.put_scalar("seconds/record", time.perf_counter() - start, smoothing_hint=False)


class SummaryHook(HookBase):
    """Times the training steps of each epoch, and prints one line about it at its end, before any scoring.

    Args:
        images: of a step, over all processes, one view each.
        cross_start: first epoch of the cross-modality stage.
    """

    def __init__(self, images: int, *, cross_start: int) -> None:
        self._images, self._cross_start = images, cross_start
        self._began, self._first = 0.0, 0

    def before_epoch(self) -> None:
        self._began, self._first = time.perf_counter(), self.trainer.iter

    def after_epoch(self) -> None:
        trainer = self.trainer
        seconds = time.perf_counter() - self._began
        rate = self._images * trainer.iters_per_epoch / max(seconds, 1e-9)
        trainer.storage.put_scalars(**{"seconds/train": seconds, "images_per_second": rate}, smoothing_hint=False)
        latest = trainer.storage.latest_with_smoothing_hint(trainer.iters_per_epoch)
        scalars = {name: value for name, (value, iteration) in latest.items() if iteration >= self._first}
        logger.info(epoch_line(trainer.epoch, "cross" if trainer.epoch >= self._cross_start else "intra", scalars))


def epoch_line(epoch: int, stage: str, scalars: dict[str, float]) -> str:
    """One line about an epoch: labels, matches, fairness, loss, speed; missing figures are left out."""
    spent = sum(value for name, value in scalars.items() if name.startswith("seconds/"))
    told = [f"epoch {epoch:3d} {stage}"]
    for part in _LINE:
        try:
            told.append(part.format(**scalars, elapsed=spent))
        except KeyError:
            continue
    return " | ".join(told)
