"""Decoded images at one size: as a torch data set for workers, or as one block in memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mgot.data.images import read_image_checked
from mgot.data.items import VISIBLE, Item
from mgot.errors import UserError
from mgot.progress import progress

logger = logging.getLogger("mgot")

CACHES = ("off", "ram")


class ImageSet(Dataset[dict[str, Any]]):
    """Images by index, resized, as uint8; what the host's evaluator needs rides along.

    Args:
        items: the images.
        size: (height, width) in pixels; bicubic, as the host resizes.
        cache: "ram" decodes everything once, at construction, N * 3 * height * width bytes; "off" at each access.
        skip_unreadable: warn of an image that cannot be read and let the next readable one of the list stand in for it,
            by its pixels alone: labels stay those of the index.
        desc: label of the progress bar that filling the cache shows.

    Raises:
        UserError: an image cannot be read, or with ``skip_unreadable`` none can.
    """

    def __init__(
        self,
        items: Sequence[Item],
        size: Sequence[int],
        *,
        cache: str = "off",
        skip_unreadable: bool = False,
        desc: str = "read",
    ) -> None:
        self.items = list(items)
        self._skip = skip_unreadable
        self.size = (int(size[0]), int(size[1]))
        self._block: Tensor | None = None
        if cache == "ram":
            block = torch.empty(len(self.items), 3, *self.size, dtype=torch.uint8)
            for i in progress(range(len(self.items)), desc):
                block[i] = self._read(i)
            self._block = block

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_classes(self) -> int:
        """Asked for by the host's trainer, which would size a classifier with it; MGOT has none and knows no class."""
        return 0

    @property
    def cached(self) -> bool:
        """Whether the images are in memory."""
        return self._block is not None

    def image(self, index: int) -> Tensor:
        """(3, height, width) uint8."""
        return self._read(index) if self._block is None else self._block[index]

    def batch(self, indices: np.ndarray) -> Tensor:
        """(B, 3, height, width) uint8 of the given indices."""
        if self._block is not None:
            return self._block[torch.as_tensor(indices)]
        return torch.stack([self._read(int(i)) for i in indices])

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.items[index]
        return {
            "images": self.image(index),
            "targets": item.identity,
            "camids": item.camera,
            "is_visible": item.modality == VISIBLE,
        }

    def _read(self, index: int) -> Tensor:
        height, width = self.size
        image = self._open(index)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def _open(self, index: int) -> Image.Image:
        if not self._skip:
            return read_image_checked(self.items[index].path)
        for step in range(len(self.items)):
            try:
                return read_image_checked(self.items[(index + step) % len(self.items)].path)
            except UserError as error:
                logger.warning(f"{error}; the next image stands in for it (MGOT.DATA.SKIP_UNREADABLE)")
        raise UserError(f"none of the {len(self.items)} images can be read: check the data folder")
