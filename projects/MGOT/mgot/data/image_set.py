"""Decoded images at one size: as a torch data set for workers, or as one block in memory."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mgot.data.disk_cache import open_or_fill
from mgot.data.images import pixels, read_image_checked
from mgot.data.items import VISIBLE, Item
from mgot.errors import UserError
from mgot.progress import progress

logger = logging.getLogger("mgot")

CACHES = ("off", "ram", "disk")
_DECODED_AT_ONCE = 32


@dataclass(frozen=True)
class CacheOptions:
    """How decoded images are kept.

    Attributes:
        kind: "off" decodes at each access. "ram" decodes everything at construction, N * 3 * height * width bytes.
            "disk" does so once for all runs, into a file that is mapped into memory.
        folder: of the files on disk.
        limit_gb: size limit of the folder, in 10^9 bytes.
        num_workers: processes that decode what is kept.
    """

    kind: str = "off"
    folder: str = ""
    limit_gb: float = 64.0
    num_workers: int = 0


OFF = CacheOptions()


class ImageSet(Dataset[dict[str, Any]]):
    """Images by index, resized, as uint8, with what fast-reid's evaluator needs.

    Args:
        items: the images.
        size: (height, width) in pixels; bicubic, as fast-reid resizes.
        cache: how decoded images are kept.
        skip_unreadable: if an image cannot be read, warn and use the pixels of the next readable image of the list.
            Labels stay those of the index.
        desc: label of the progress bar that filling the cache shows.

    Raises:
        UserError: an image cannot be read, or with ``skip_unreadable`` none can; the cache cannot be kept.
    """

    def __init__(
        self,
        items: Sequence[Item],
        size: Sequence[int],
        *,
        cache: CacheOptions = OFF,
        skip_unreadable: bool = False,
        desc: str = "read",
    ) -> None:
        self.items = list(items)
        self._skip = skip_unreadable
        self.size = (int(size[0]), int(size[1]))
        self._block: Tensor | None = None
        if cache.kind == "ram":
            self._block = torch.empty(len(self.items), 3, *self.size, dtype=torch.uint8)
            start = 0
            for batch in self._decoded(cache.num_workers, desc):
                self._block[start : start + len(batch)] = batch
                start += len(batch)
        elif cache.kind == "disk":
            paths, shape = [item.path for item in self.items], (len(self.items), 3, *self.size)
            batches = (batch.numpy() for batch in self._decoded(cache.num_workers, desc))
            mapped = open_or_fill(Path(cache.folder), paths, shape, batches, limit_gb=cache.limit_gb)
            self._block = torch.from_numpy(mapped)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_classes(self) -> int:
        """fast-reid's trainer reads this to size a classifier. MGOT has no classifier and no classes."""
        return 0

    @property
    def cached(self) -> bool:
        """Whether the images are decoded already."""
        return self._block is not None

    def image(self, index: int) -> Tensor:
        """(3, height, width) uint8."""
        return self._read(index) if self._block is None else self._block[index]

    def batch(self, indices: np.ndarray) -> Tensor:
        """(B, 3, height, width) uint8 of the given indices."""
        if self._block is not None:
            return self._block[torch.as_tensor(indices)]
        return torch.stack([self._read(int(i)) for i in indices])

    def _decoded(self, num_workers: int, desc: str) -> Iterator[Tensor]:
        """All images in order, decoded again, in batches (n, 3, height, width)."""
        runs = [np.arange(i, min(i + _DECODED_AT_ONCE, len(self))) for i in range(0, len(self), _DECODED_AT_ONCE)]
        decoder = _Decoder(copy.copy(self))
        yield from progress(DataLoader(decoder, batch_size=None, sampler=runs, num_workers=num_workers), desc)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.items[index]
        return {
            "images": self.image(index),
            "targets": item.identity,
            "camids": item.camera,
            "is_visible": item.modality == VISIBLE,
        }

    def _read(self, index: int) -> Tensor:
        return torch.from_numpy(pixels(self._open(index), self.size))

    def _open(self, index: int) -> Image.Image:
        if not self._skip:
            return read_image_checked(self.items[index].path)
        for step in range(len(self.items)):
            try:
                return read_image_checked(self.items[(index + step) % len(self.items)].path)
            except UserError as error:
                logger.warning(f"{error}; the next image is used instead (MGOT.DATA.SKIP_UNREADABLE)")
        raise UserError(f"none of the {len(self.items)} images can be read: check the data folder")


class _Decoder(Dataset[Tensor]):
    """A set without its cache, by runs of indices. Workers use it to fill the cache."""

    def __init__(self, images: ImageSet) -> None:
        images._block = None
        self._images = images

    def __getitem__(self, run: np.ndarray) -> Tensor:
        return self._images.batch(run)
