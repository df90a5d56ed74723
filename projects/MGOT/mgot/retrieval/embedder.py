"""Image files to features, for any kind of model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from mgot.data.images import pixels, read_image_checked
from mgot.errors import UserError
from mgot.progress import progress

BATCH = 64


class Embedder(Protocol):
    """A trained model as retrieval sees it.

    Attributes:
        size: (height, width) of its input.
        fingerprint: different if features may be different.
        two_stream: each modality has its own layers, so the modality of an image must be given.
        weights: its file.
    """

    size: tuple[int, int]
    fingerprint: str
    two_stream: bool
    weights: Path

    def embed(self, images: np.ndarray, is_visible: np.ndarray | None) -> np.ndarray:
        """(B, 3, H, W) uint8 images to (B, D) float32 L2-normalised features; ``is_visible`` (B,) for two streams."""


def embed_files(
    embedder: Embedder, paths: Sequence[Path], *, visible: bool | None, desc: str = "embed"
) -> Iterator[np.ndarray | UserError]:
    """The feature (D,) of each image file in order, or the error if a file cannot be read.

    Files are read as in the evaluation, by threads, one batch ahead of the model. ``visible`` is their modality; None
    if the model does not need it.

    Raises:
        UserError: the model gives features that are not finite.
    """
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]

    def read(path: Path) -> np.ndarray | UserError:
        try:
            return pixels(read_image_checked(path), embedder.size)
        except UserError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = pool.map(read, batches[0] if batches else [])
        for number in progress(range(len(batches)), desc, len(batches)):
            found = list(ahead)
            ahead = pool.map(read, batches[number + 1] if number + 1 < len(batches) else [])
            images = [image for image in found if isinstance(image, np.ndarray)]
            told = None if visible is None else np.full(len(images), visible)
            features = embedder.embed(np.stack(images), told) if images else np.zeros((0, 0))
            if not np.isfinite(features).all():
                raise UserError(f"--weights {embedder.weights}: its features hold NaN or infinity: name other weights")
            rows = iter(features)
            for image in found:
                yield image if isinstance(image, UserError) else next(rows)
