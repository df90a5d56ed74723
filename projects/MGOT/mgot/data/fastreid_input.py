"""fast-reid's samplers and transforms in MGOT's loader, each chosen by a key. [ours]"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.data import samplers
from fastreid.data.transforms import build, build_transforms
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms.functional import to_pil_image

from mgot.data.items import Item, cameras
from mgot.data.sampler import CrossModalitySampler
from mgot.data.transforms import Views
from mgot.errors import UserError

OURS = "CrossModalitySampler"
HOST_SAMPLERS = ("TrainingSampler", "NaiveIdentitySampler", "BalancedIdentitySampler", "ImbalancedDatasetSampler")
SAMPLERS = (OURS, *HOST_SAMPLERS)
_BY_IDENTITY = ("NaiveIdentitySampler", "BalancedIdentitySampler")
INPUT_BY = ("batch", "host")

# Keys of fast-reid that only its own transforms obey.
_HOST_ONLY = ("CROP", "AUGMIX", "AUTOAUG", "CJ", "AFFINE", "RPT")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that fast-reid's samplers and transforms use, and restore them afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  fast-reid draws from these
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


class FastreidSampler(CrossModalitySampler):
    """Draws each modality's half of a batch with a sampler of fast-reid, on the epoch's pseudo labels.

    Outliers are never drawn. Cross labels are not used: MGOT.PAIRED_SAMPLING is for our own sampler.

    Args:
        name: one of HOST_SAMPLERS. The two by identity draw K images of P clusters. The others draw P K images of any
            clusters.
        visible, infrared: training items, for their paths and cameras.
        n_classes, n_instances, n_batches, seed: as of :class:`mgot.data.sampler.CrossModalitySampler`.
    """

    def __init__(self, name: str, visible: Sequence[Item], infrared: Sequence[Item], *args: int, seed: int) -> None:
        super().__init__(*args, seed=seed)
        self._name, self._items = name, (visible, infrared)
        self._labels: tuple[np.ndarray, np.ndarray] | None = None

    def set_epoch(self, epoch: int, labels_v: np.ndarray, labels_r: np.ndarray, *_: Any, skip: int = 0) -> None:
        """Set the labels that the next iteration draws from, as in our sampler; cross labels are ignored."""
        self._epoch, self._skip, self._labels = epoch, skip, (labels_v, labels_r)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (visible indices, infrared indices), each (P K,); nothing before :meth:`set_epoch`.

        Raises:
            UserError: a sampler by identity gets fewer than P clusters; fast-reid's would never end.
        """
        if self._labels is None:
            return
        visible, infrared = (self._drawn(modality) for modality in (0, 1))
        yield from zip(visible[self._skip :], infrared[self._skip :] + len(self._labels[0]), strict=True)

    def _drawn(self, modality: int) -> np.ndarray:
        """(n_batches, P K) indices within the modality."""
        assert self._labels is not None
        labels = self._labels[modality]
        kept = np.flatnonzero(labels >= 0)
        clusters = len(np.unique(labels[kept]))
        if self._name in _BY_IDENTITY and clusters < self.n_classes:
            raise UserError(
                f"DATALOADER.SAMPLER_TRAIN {self._name} needs {self.n_classes} clusters of each modality and has"
                f" {clusters}: lower SOLVER.IMS_PER_BATCH or choose {OURS}"
            )
        size = self.n_classes * self.n_instances
        all_items = self._items[modality]
        items = [(all_items[i].path, int(labels[i]), all_items[i].camera) for i in kept.tolist()]
        seed = int(np.random.SeedSequence([self.seed, self._epoch, modality]).generate_state(1)[0])
        with seeded(seed):
            indices = iter(self._fastreid(items, size, seed))
            drawn = list(itertools.islice(indices, self.n_batches * size))
        return kept[np.array(drawn)].reshape(self.n_batches, size)

    def _fastreid(self, items: list[tuple[str, int, int]], size: int, seed: int) -> Any:
        cls = getattr(samplers, self._name)
        if self._name in _BY_IDENTITY:
            return cls(items, size, self.n_instances, seed=seed)
        return cls(items if self._name == "ImbalancedDatasetSampler" else len(items), seed=seed)


class _Affine(T.RandomAffine):
    """Accepts the old argument names of fast-reid (data/transforms/build.py:81), which torchvision has removed."""

    def __init__(self, *args: Any, resample: Any = None, fillcolor: Any = None, **options: Any) -> None:
        super().__init__(*args, fill=fillcolor or 0, **options)


build.T = SimpleNamespace(**{**vars(T), "RandomAffine": _Affine})


class FastreidTransforms:
    """fast-reid's training transforms, image by image, on decoded images.

    Args:
        transform: a PIL image to a float tensor (3, H, W) in 0..255; as ``build_transforms`` of fast-reid gives.
    """

    def __init__(self, transform: Callable[[Any], Tensor]) -> None:
        self._transform = transform

    def __call__(self, images: Tensor, seed: int, copies: int = 1) -> Tensor:
        """(copies B, 3, H, W) float from (B, 3, H, W) uint8: all images once, then all again with new random draws."""
        pictures = [to_pil_image(image) for image in images]
        with seeded(seed):
            return torch.stack([self._transform(picture) for _ in range(copies) for picture in pictures])


@dataclass(frozen=True)
class FastreidViews(Views):
    """What remains to do on a batch after fast-reid's transforms: the channel view and the infrared jitter.

    fast-reid's erasing comes before them here, and after them in :class:`mgot.data.transforms.Augmentation`.

    Attributes:
        visible_copies: as of :class:`mgot.data.transforms.Augmentation`.
    """

    visible_copies: int = 2

    def __call__(self, visible: Tensor, infrared: Tensor, generator: torch.Generator) -> Tensor:
        """(2 B_v + B_r, 3, H, W) from (2 B_v, 3, H, W) and (B_r, 3, H, W), all transformed by fast-reid already."""
        images = torch.cat([visible, infrared]).float()
        self.draw_views(images, len(visible) // 2, generator)
        return images


def build_fastreid_transforms(cfg: CfgNode) -> FastreidTransforms | None:
    """fast-reid's transforms, if MGOT.AUG.BY chooses them.

    Raises:
        UserError: a transform is switched on that only fast-reid has, and MGOT.AUG.BY is not "host".
    """
    if cfg.MGOT.AUG.BY == "host":
        return FastreidTransforms(build_transforms(cfg, is_train=True))
    for name in _HOST_ONLY:
        if cfg.INPUT[name].ENABLED:
            raise UserError(f"INPUT.{name}.ENABLED is fast-reid's transform: add MGOT.AUG.BY host, or switch it off")
    return None


def build_sampler(
    cfg: CfgNode, visible: Sequence[Item], infrared: Sequence[Item], n_classes: int, world_size: int
) -> CrossModalitySampler:
    """The sampler named by DATALOADER.SAMPLER_TRAIN.

    Raises:
        UserError: one of fast-reid's is chosen in several processes. It would divide batches differently.
    """
    name, counts = cfg.DATALOADER.SAMPLER_TRAIN, (n_classes, cfg.DATALOADER.NUM_INSTANCE, cfg.MGOT.ITERS_PER_EPOCH)
    if name == OURS:
        apart = cameras([*visible, *infrared]) if cfg.MGOT.OTHER_CAMERAS else None
        return CrossModalitySampler(*counts, seed=cfg.SEED, cameras=apart)
    if world_size > 1:
        raise UserError(f"DATALOADER.SAMPLER_TRAIN {name} is for a single process: choose {OURS} for {world_size}")
    return FastreidSampler(name, visible, infrared, *counts, seed=cfg.SEED)
