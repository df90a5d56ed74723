"""Rehearsed saving and resuming: a checkpoint within an epoch, and the next loss with and without it."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import torch
from fastreid.utils.events import EventStorage

from mgot.analysis.rehearsal.material import rehearsed_config, shrink, trainer_class
from mgot.analysis.rehearsal.scene import Scene, needed
from mgot.analysis.rehearsal.table import Row, duration, gigabytes, times
from mgot.analysis.rehearsal.training import step
from mgot.errors import UserError


def save(scene: Scene) -> Iterator[Row]:
    """A checkpoint within the epoch, like one after a signal."""
    trainer = needed(scene.trainer, "trainer")
    needed(scene.taken or None, "intra steps or cross steps")
    name = f"model_{scene.epoch:04d}_{scene.taken:05d}"
    trainer.write_losses()
    start = time.perf_counter()
    saved = trainer.save_checkpoint(name, scene.epoch - 1, scene.taken)
    each = time.perf_counter() - start
    if not saved:
        raise UserError("a checkpoint could not be written: make room, or choose another OUTPUT_DIR")
    scene.checkpoint = (scene.folder / f"{name}.pth").stat().st_size
    count, fittest = scene.schedule.saves, scene.schedule.fittest
    whole = (count + fittest / 3) * each  # the fittest epoch's file has the weights without their two moments
    scene.next_loss = next_loss(scene)
    yield Row("save", whole, each=times(count, each), found=f"{gigabytes(scene.checkpoint)} a checkpoint")


def resume(scene: Scene) -> Iterator[Row]:
    """A second trainer resumes from the checkpoint. Its next loss is compared with the first one's."""
    first = needed(scene.trainer, "trainer")
    expected = needed(scene.next_loss, "save")
    classes, instances = first.data_loader.sampler.n_classes, first.data_loader.sampler.n_instances
    scene.trainer = None
    del first
    gc.collect()
    if scene.device.type == "cuda":
        torch.cuda.empty_cache()
    start = time.perf_counter()
    second = trainer_class(scene, needed(scene.sample, "images"))(rehearsed_config(scene), weights_follow=True)
    second.resume_or_load(resume=True)
    shrink(second, classes, instances)
    scene.trainer = second
    with EventStorage(second.iters_per_epoch * second.start_epoch + second.beginning.step) as second.storage:
        second.epoch, second.iter = second.start_epoch, second.storage.iter
        second._begin_epoch(within=True)
        seconds = time.perf_counter() - start
        found = next_loss(scene)
    same = "the next loss is the same" if found == expected else f"the next loss differs by {abs(found - expected):.1e}"
    yield Row("resume", whole="-", each=duration(seconds), found=same)


def next_loss(scene: Scene) -> float:
    """The total loss of one more step.

    Raises:
        UserError: it is not finite.
    """
    trainer = needed(scene.trainer, "trainer")
    trainer.write_losses()
    at = trainer.iter
    step(scene)
    trainer.write_losses()
    values = [value for value, iteration in trainer.storage.history("total_loss").values() if iteration == at]
    if not values:
        raise UserError("no loss is finite: lower SOLVER.BASE_LR, or set MGOT.PRECISION float32")
    return float(values[-1])
