"""From the config to loaders: training batches of both modalities, and images in order for extraction."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.utils import comm
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mgot.data.fastreid_input import FastreidTransforms, FastreidViews, build_fastreid_transforms, build_sampler
from mgot.data.image_set import OFF, CacheOptions, ImageSet
from mgot.data.items import Item
from mgot.data.registered import FastreidDataset, registered
from mgot.data.sampler import CrossModalitySampler, WholeBatch
from mgot.data.training_people import training_people
from mgot.data.transforms import Augmentation
from mgot.errors import UserError

logger = logging.getLogger("mgot")


def data_root() -> str:
    """The folder that holds the data sets: FASTREID_DATASETS, else ``datasets``."""
    return os.getenv("FASTREID_DATASETS", "datasets")


def build_dataset(cfg: CfgNode, name: str) -> FastreidDataset:
    """The registered data set of that name, read from FASTREID_DATASETS (default: ``datasets``).

    Raises:
        UserError: no data set of that name is registered, it is not one of MGOT's, its files are missing, or
            MGOT.DATA.VALIDATION is on and it has no validation people.
    """
    cls = registered(name)
    validation = cls.validation_options() if cfg.MGOT.DATA.VALIDATION else {}
    data: FastreidDataset = DATASET_REGISTRY.get(name)(root=data_root(), **cls.options(cfg.MGOT), **validation)
    return data


@dataclass
class EpochLabels:
    """The pseudo labels in force: (N_v,) and (N_r,), -1 = outlier."""

    visible: np.ndarray
    infrared: np.ndarray


class _Indexed(Dataset[tuple[Tensor, Tensor, Any]]):
    """A data set that is indexed by the (visible, infrared) indices of a step, so a worker prepares whole batches."""

    def __init__(self, images: ImageSet, rank: int, world_size: int, transforms: FastreidTransforms | None) -> None:
        self.images, self._rank, self._world_size, self._transforms = images, rank, world_size, transforms

    def __getitem__(self, step: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor, Any]:
        indices = [np.split(part, self._world_size)[self._rank] for part in step]
        visible, infrared = (self.images.batch(part) for part in indices)
        if self._transforms is not None:  # the step's own images are the seed, whichever worker meets them
            seeds = [int(np.random.SeedSequence(part).generate_state(1)[0]) for part in indices]
            visible, infrared = self._transforms(visible, seeds[0], copies=2), self._transforms(infrared, seeds[1])
        return visible, infrared, step


class CrossModalityLoader:
    """Training batches: two views of the visible images, then the infrared ones, with their pseudo labels.

    A batch is ``images`` (2 B_v + B_r, 3, H, W) float in 0..255 on the device, ``is_visible`` and ``targets`` of that
    length on the CPU: reading them must not make a step wait for the device. Workers only decode. Labels are added in
    this process, so the workers need not restart when labels change.

    Args:
        visible, infrared: training items of each modality.
        size: (height, width).
        sampler: draws the indices.
        augmentation: applied to each batch.
        device: where batches are augmented and returned.
        transforms: fast-reid's, applied to each image by the workers. The augmentation is then FastreidViews.
        cache: how decoded images are kept.
        skip_unreadable: as :class:`mgot.data.image_set.ImageSet` has it.
        num_workers: decoding processes. None are used if images are kept decoded, except for fast-reid's transforms.
        image_set: makes the set of images, with the arguments of :class:`mgot.data.image_set.ImageSet`.
        rank, world_size: each step's P clusters are divided into world_size equal parts; this process takes number
            rank.

    Raises:
        UserError: P is not a multiple of the number of processes.
    """

    def __init__(
        self,
        visible: Sequence[Item],
        infrared: Sequence[Item],
        size: Sequence[int],
        sampler: CrossModalitySampler,
        augmentation: Augmentation | FastreidViews,
        *,
        device: torch.device,
        transforms: FastreidTransforms | None = None,
        cache: CacheOptions = OFF,
        skip_unreadable: bool = False,
        num_workers: int = 0,
        image_set: Callable[..., ImageSet] = ImageSet,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if sampler.n_classes % world_size:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH gives {sampler.n_classes} pseudo classes per batch, which cannot be divided"
                f" among {world_size} processes"
            )
        self._rank, self._world_size = rank, world_size
        self.n_visible = len(visible)
        self.dataset = image_set(
            [*visible, *infrared], size, cache=cache, skip_unreadable=skip_unreadable, desc="read training images"
        )
        self.sampler, self.augmentation, self.device = sampler, augmentation, device
        workers = 0 if self.dataset.cached and transforms is None else num_workers
        self._steps = DataLoader(
            _Indexed(self.dataset, rank, world_size, transforms),
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        self._generator = torch.Generator(device=device)
        self._labels: EpochLabels | None = None

    def set_epoch(
        self,
        epoch: int,
        labels: EpochLabels,
        v2r: np.ndarray | None = None,
        r2v: np.ndarray | None = None,
        *,
        skip: int = 0,
    ) -> None:
        """Set the labels, draws and augmentation of the next iteration; matches and ``skip`` as in the sampler."""
        self._labels = labels
        self.sampler.set_epoch(epoch, labels.visible, labels.infrared, v2r, r2v, skip=skip)
        seed = np.random.SeedSequence([self.sampler.seed, epoch, self._rank]).generate_state(1, np.uint64)[0]
        self._generator.manual_seed(int(seed >> np.uint64(1)))
        images = self.sampler.n_classes // self._world_size * self.sampler.n_instances
        pixels = torch.zeros(images, 3, 1, 1, device=self.device)  # what is drawn depends only on the number of images
        for _ in range(skip):
            self.augmentation(pixels.repeat(self.augmentation.visible_copies, 1, 1, 1), pixels, self._generator)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches = self._batches(iter(self._steps))  # drawn from PyTorch's generator now, before a resume restores that
        return _one_ahead(batches, self.device) if self.device.type == "cuda" else batches

    def _batches(self, steps: Iterator[Any]) -> Iterator[dict[str, Any]]:
        for visible, infrared, (index_v, index_r) in steps:
            assert self._labels is not None
            whole = self._whole(index_v, index_r)
            images = self.augmentation(
                visible.to(self.device, non_blocking=True), infrared.to(self.device, non_blocking=True), self._generator
            )
            if self._world_size == 1:
                yield {"images": images, "is_visible": whole.is_visible, "targets": whole.targets}
            else:
                mine = torch.argsort(whole.order).chunk(self._world_size)[self._rank]
                yield {
                    "images": images,
                    "is_visible": whole.is_visible[mine],
                    "targets": whole.targets[mine],
                    "whole": whole,
                }

    def _whole(self, index_v: np.ndarray, index_r: np.ndarray) -> WholeBatch:
        """The batch of all processes: both visible views, then infrared, each one process after the other."""
        assert self._labels is not None
        y_v = torch.as_tensor(self._labels.visible[index_v])
        y_r = torch.as_tensor(self._labels.infrared[index_r - self.n_visible])
        targets = torch.cat([y_v, y_v, y_r])
        is_visible = torch.arange(len(targets)) < 2 * len(y_v)
        places = torch.arange(len(targets)).view(self._world_size, -1)
        parts = places.split([len(part) // self._world_size for part in (y_v, y_v, y_r)], dim=1)
        return WholeBatch(torch.cat([part.flatten() for part in parts]), is_visible, targets)


def _one_ahead(batches: Iterator[dict[str, Any]], device: torch.device) -> Iterator[dict[str, Any]]:
    """Copy and augment each batch on a stream of its own while the model works on the one before."""
    stream = torch.cuda.Stream(device)

    def draw() -> dict[str, Any] | None:
        with torch.cuda.stream(stream):
            return next(batches, None)

    batch = draw()
    while batch is not None:
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        batch["images"].record_stream(current)
        following = draw()
        yield batch
        batch = following


def build_train_loader(cfg: CfgNode, image_set: Callable[..., ImageSet] = ImageSet) -> CrossModalityLoader:
    """The training loader of the config's one training set, its images held by an ``image_set``.

    SOLVER.IMS_PER_BATCH counts the images of both modalities, one view each, over all processes.

    Raises:
        UserError: one modality without images, test images that cannot be scored, or counts that do not fit together.
    """
    data = build_dataset(cfg, cfg.DATASETS.NAMES[0])
    for remark in [*data.remarks, *(data.count_warnings() if cfg.MGOT.DATA.CHECK_COUNTS else [])]:
        logger.warning(remark)
    for modality, items in (("visible", data.visible), ("infrared", data.infrared)):
        if not items:
            place, source = Path(data_root()) / data.dataset.folder, data.dataset.source
            raise UserError(f"{place} holds no {modality} training image: it must hold some ({source})")
    if data.dataset.name in cfg.DATASETS.TESTS:
        data.protocols()  # what cannot be scored shows now, not after the training
    visible, infrared = training_people(cfg, data, data_root())
    per_class = cfg.DATALOADER.NUM_INSTANCE
    n_classes, rest = divmod(cfg.SOLVER.IMS_PER_BATCH, 2 * per_class)
    if rest:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH ({cfg.SOLVER.IMS_PER_BATCH}) must be a multiple of 2 x DATALOADER.NUM_INSTANCE"
            f" ({2 * per_class})"
        )
    return CrossModalityLoader(
        visible,
        infrared,
        cfg.INPUT.SIZE_TRAIN,
        build_sampler(cfg, visible, infrared, n_classes, comm.get_world_size()),
        build_augmentation(cfg),
        transforms=build_fastreid_transforms(cfg),
        device=torch.device(cfg.MODEL.DEVICE),
        cache=cache_options(cfg),
        skip_unreadable=cfg.MGOT.DATA.SKIP_UNREADABLE,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        image_set=image_set,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )


def cache_options(cfg: CfgNode) -> CacheOptions:
    """How the config wants decoded images kept."""
    keys = cfg.DATALOADER
    folder = keys.CACHE_DIR or os.path.join(data_root(), "image_cache")
    return CacheOptions(keys.CACHE, folder, keys.CACHE_LIMIT_GB, keys.NUM_WORKERS)


def build_augmentation(cfg: CfgNode) -> Augmentation | FastreidViews:
    """The augmentation of fast-reid's INPUT keys and MGOT.AUG, without what fast-reid's transforms do already."""
    aug = cfg.MGOT.AUG
    views: dict[str, Any] = {
        "gray_prob": aug.GRAY_PROB,
        "spectral_prob": aug.SPECTRAL_PROB,
        "infrared_jitter": aug.INFRARED_JITTER,
        "colour_jitter": aug.COLOUR_JITTER,
    }
    if aug.BY == "host":
        return FastreidViews(**views)
    return Augmentation(
        **views,
        padding=cfg.INPUT.PADDING.SIZE if cfg.INPUT.PADDING.ENABLED else 0,
        flip_prob=cfg.INPUT.FLIP.PROB if cfg.INPUT.FLIP.ENABLED else 0.0,
        erase_prob=cfg.INPUT.REA.PROB if cfg.INPUT.REA.ENABLED else 0.0,
        erase_value=tuple(cfg.INPUT.REA.VALUE),
    )


def my_run(n: int) -> range:
    """The rows of this process, one of several runs of about the same length."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    return range(n * rank // world_size, n * (rank + 1) // world_size)


def build_ordered_loader(
    images: ImageSet,
    batch_size: int,
    num_workers: int,
    *,
    device: str | torch.device,
    first: int | None = None,
) -> DataLoader[dict[str, Any]]:
    """Images in their order, each once, for extraction on a device. Several processes have runs of about equal length.

    ``first`` takes only that many from the start.
    """
    mine = my_run(len(images) if first is None else first)
    workers = 0 if images.cached else num_workers
    pinned = torch.device(device).type == "cuda" and torch.cuda.is_available()
    return DataLoader(Subset(images, mine), batch_size=batch_size, num_workers=workers, pin_memory=pinned)
