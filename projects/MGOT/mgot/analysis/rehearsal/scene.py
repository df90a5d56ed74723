"""What the stages of a rehearsal share: the config, what was found so far, and the rows of the table."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import Tensor

from mgot.analysis.rehearsal.footprint import Footprint
from mgot.analysis.rehearsal.schedule import Schedule
from mgot.analysis.rehearsal.table import Row
from mgot.data.image_set import ImageSet
from mgot.data.items import Item
from mgot.data.registered import FastreidDataset
from mgot.engine.epoch import EpochState
from mgot.engine.trainer import MGOTTrainer

T = TypeVar("T")


class NotTried(Exception):
    """A stage cannot be rehearsed, because an earlier one failed; says which."""


def needed(found: T | None, stage: str) -> T:
    """What an earlier stage has found; NotTried if it failed."""
    if found is None:
        raise NotTried(f"needs the result of the stage {stage}")
    return found


@dataclass
class Lists:
    """Images of a run.

    Attributes:
        visible, infrared: trained on.
        tests: the sets that are scored.
    """

    visible: list[Item]
    infrared: list[Item]
    tests: list[FastreidDataset]

    @property
    def training(self) -> list[Item]:
        """Visible, then infrared."""
        return [*self.visible, *self.infrared]

    @property
    def pools(self) -> list[Item]:
        """All test images."""
        return [item for test in self.tests for item in [*test.query, *test.gallery]]


@dataclass
class Sample:
    """Images that were decoded.

    Attributes:
        chosen: (n,) places among the training images, ascending; visible ones come first.
        n_visible: how many of them are visible.
        train, test: the images, decoded.
        seconds: to decode one.
    """

    chosen: np.ndarray
    n_visible: int
    train: ImageSet
    test: ImageSet
    seconds: float


class Features(NamedTuple):
    """Features of the sample: (n_v, D), (n_r, D), and (n_v, D) under laws of colour if the matcher uses them."""

    visible: Tensor
    infrared: Tensor
    spectral: Tensor | None


@dataclass
class Scene:
    """A rehearsal in progress.

    Attributes:
        cfg: the user's.
        folder: for what the rehearsal writes.
        steps: of each training stage.
        card: bytes of the GPU that the run is judged against; None if there is none.
        schedule: how often each part runs.
        rows, notes: of the table so far.
        lists: image lists, from the stage data.
        sample: decoded images, from images.
        lines: memory of a step, "card", and "ram" if the run trains on a CPU; from memory.
        seconds_per_view: of a training step, for each image in the network, if the run trains on a CPU; from memory.
        state: the starting weights, from weights.
        trainer: on the lists, with these weights.
        features: of the sample, from extract.
        labels: pseudo labels of all images, from cluster.
        views_taken: images in the network in a rehearsed step; fewer than in a full step if that is too large.
        epoch, taken: the trainer's epoch, and the steps it has taken in it.
        checkpoint, record: bytes of such a file; 0 if none was written.
        next_loss: of the step after the checkpoint, from save.
        workers: bytes that the loader's processes hold.
    """

    cfg: CfgNode
    folder: Path
    steps: int
    card: float | None
    schedule: Schedule
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lists: Lists | None = None
    sample: Sample | None = None
    lines: dict[str, Footprint] = field(default_factory=dict)
    seconds_per_view: float | None = None
    state: dict[str, Tensor] | None = None
    trainer: MGOTTrainer | None = None
    features: Features | None = None
    labels: EpochState | None = None
    views_taken: int = 0
    epoch: int = 0
    taken: int = 0
    checkpoint: int = 0
    next_loss: float | None = None
    record: int = 0
    workers: int = 0

    @property
    def device(self) -> torch.device:
        """Where the run trains."""
        return torch.device(self.cfg.MODEL.DEVICE)

    @property
    def views(self) -> int:
        """Images in the network in a full step; visible ones count twice."""
        return 3 * self.cfg.SOLVER.IMS_PER_BATCH // 2

    @property
    def side_by_side(self) -> int:
        """Loader processes that really decode at the same time."""
        return max(1, min(self.cfg.DATALOADER.NUM_WORKERS, os.cpu_count() or 1))

    @property
    def decodes_while_training(self) -> bool:
        """Whether images are decoded at each access."""
        return self.cfg.DATALOADER.CACHE == "off"
