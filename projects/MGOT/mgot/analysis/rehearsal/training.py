"""Rehearsed training: a few steps of each stage, with half the batch if the full one does not fit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from mgot.analysis.rehearsal.extraction import with_decoding
from mgot.analysis.rehearsal.labelling import begin_epoch, hook_of
from mgot.analysis.rehearsal.machine import children_memory, wait_for
from mgot.analysis.rehearsal.material import shrink
from mgot.analysis.rehearsal.scene import Scene, needed
from mgot.analysis.rehearsal.table import Row, times
from mgot.engine.hooks import MemoryUpdateHook
from mgot.engine.schedule.cross import cross_start_epoch


def intra(scene: Scene) -> Iterator[Row]:
    """A few steps of the intra-modality stage."""
    if scene.schedule.intra:
        yield _steps(scene, "intra steps", 0, scene.schedule.intra)


def cross(scene: Scene) -> Iterator[Row]:
    """A few steps of the cross-modality stage."""
    if scene.schedule.cross:
        yield _steps(scene, "cross steps", cross_start_epoch(scene.cfg), scene.schedule.cross)


def _steps(scene: Scene, name: str, epoch: int, epochs: int) -> Row:
    begin_epoch(scene, epoch)
    failure = ""
    paces: list[Any] = []
    while not paces:
        try:
            paces = [step(scene) for _ in range(scene.steps)]
        except torch.cuda.OutOfMemoryError:
            failure = (
                failure or "a step does not fit the GPU's memory: set MGOT.RECOMPUTE, or lower SOLVER.IMS_PER_BATCH"
            )
            _halve(scene)
            begin_epoch(scene, epoch)
    scene.workers = max(scene.workers, children_memory())
    kept = paces[1:] or paces
    compute, waited = (sum(part) / len(kept) for part in zip(*kept, strict=True))
    share = scene.views_taken / scene.views
    images = scene.cfg.SOLVER.IMS_PER_BATCH
    each = _each_step(scene, compute / share, waited / share, images)
    count = epochs * scene.schedule.steps
    told = f"{len(kept)} step{'s' * (len(kept) > 1)} of {scene.views_taken} views"
    told += "" if share == 1 else f", scaled to {scene.views}"
    return Row(name, count * each, each=times(count, each), found=told, failure=failure)


def _each_step(scene: Scene, compute: float, waited: float, images: int) -> float:
    """Seconds of a step. The waits of a few steps say nothing, because the loader processes had batches ready."""
    if scene.decodes_while_training and scene.cfg.DATALOADER.NUM_WORKERS:
        return with_decoding(scene, compute, images * needed(scene.sample, "images").seconds)
    return compute + waited


def step(scene: Scene) -> tuple[float, float]:
    """One training step as the trainer takes it; its seconds of computing and of waiting for the batch."""
    trainer = needed(scene.trainer, "trainer")
    waited = _Waited(trainer.training_step.batches)
    trainer.training_step.batches = waited
    start = time.perf_counter()
    trainer.run_step()
    memory = hook_of(trainer, MemoryUpdateHook)
    assert memory is not None
    memory.after_step()
    wait_for(scene.device)
    trainer.training_step.batches = waited.batches
    trainer.iter += 1
    scene.taken += 1
    return time.perf_counter() - start - waited.seconds, waited.seconds


class _Waited(Iterator[Any]):
    """Batches, and how long they were waited for."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches, self.seconds = batches, 0.0

    def __next__(self) -> Any:
        start = time.perf_counter()
        batch = next(self.batches)
        self.seconds += time.perf_counter() - start
        return batch


def _halve(scene: Scene) -> None:
    """Use half the batch from now on.

    Raises:
        torch.cuda.OutOfMemoryError: it is as small as can be.
    """
    trainer = needed(scene.trainer, "trainer")
    sampler = trainer.data_loader.sampler
    if sampler.n_classes > 1:
        shrink(trainer, sampler.n_classes // 2, sampler.n_instances)
    elif sampler.n_instances > 2:
        shrink(trainer, 1, sampler.n_instances // 2)
    else:
        raise torch.cuda.OutOfMemoryError("even a step of two images does not fit")
    scene.views_taken = 3 * sampler.n_classes * sampler.n_instances
    torch.cuda.empty_cache()
