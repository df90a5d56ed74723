"""A sample in place of all images, if reading all of them takes too long, and in place of all features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.data.image_set import OFF, ImageSet
from mgot.data.items import Item

IMAGES_OF_A_PERSON = 30  # about as many as an identity of SYSU-MM01 has in a modality
_MIXED = 0.3  # share of another image in a person made of two
_NOISE = 0.3  # of an image about its person, in units of the sample's own spread


def spread(n: int, total: int) -> np.ndarray:
    """n of the numbers 0 .. total - 1, evenly spread; all of them if there are no more."""
    return np.unique(np.linspace(0, total - 1, min(n, total)).round().astype(np.int64))


class StandIn(ImageSet):
    """All items of a training set with decoded images.

    Only a sample is decoded; the nearest one replaces each other image.

    Args:
        items: all of them.
        size: (height, width).
        chosen: (n,) indices of the sample in the items, ascending.
        decoded: the sample.
        others: of :class:`mgot.data.image_set.ImageSet`, of which ``cache`` is not kept.
    """

    def __init__(
        self, items: Sequence[Item], size: Sequence[int], *, chosen: np.ndarray, decoded: ImageSet, **others: Any
    ) -> None:
        super().__init__(items, size, **{**others, "cache": OFF})
        self._chosen, self._decoded_ones = chosen, decoded

    @property
    def cached(self) -> bool:
        """True: no image is decoded while training, as in the run that is rehearsed."""
        return True

    def image(self, index: int) -> Tensor:
        return self._decoded_ones.image(int(self._rows(np.array([index]))[0]))

    def batch(self, indices: np.ndarray) -> Tensor:
        return self._decoded_ones.batch(self._rows(np.asarray(indices)))

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._chosen, indices, side="right") - 1


def repeated(features: Tensor, total: int, *, seed: int) -> Tensor:
    """A sample's features repeated with noise to the size of the whole set.

    People are mixed of two sampled images each, and have 30 images with noise about them. Both are measured by the
    sample's own spread about its mean, so features in a narrow cone can be clustered too.

    Args:
        features: (n, D) L2-normalised features of the sample.
        total: rows asked for; if the sample has as many, the sample itself.
        seed: of the draws.

    Returns:
        (total, D) L2-normalised.
    """
    if len(features) >= total:
        return features
    generator = torch.Generator().manual_seed(seed)
    people = max(2, total // IMAGES_OF_A_PERSON)
    one, other = torch.randint(0, len(features), (2, people), generator=generator)
    centres = torch.lerp(features[one], features[other], _MIXED)
    scale = _NOISE * float((features - features.mean(0)).norm(dim=1).mean()) / features.shape[1] ** 0.5
    rows = centres[torch.arange(total) % people]
    rows += max(scale, 1e-6) * torch.randn(rows.shape, generator=generator)
    return F.normalize(rows, dim=1)
