"""Small copies of images as data URIs, for a page that needs no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from mgot.data.images import read_image_checked
from mgot.errors import UserError

SIZE = (56, 112)  # width, height of the shown thumbnail; a copy has half as much again
QUALITY = 80


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of a MIME type such as "image/png" as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


class Thumbnails:
    """Thumbnails of images under a data root; each is read once.

    Args:
        root: the data root.

    Attributes:
        missing: paths that could not be read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, str] = {}
        self.missing: set[str] = set()

    def __call__(self, path: str) -> str:
        """The data URI of an image's thumbnail, empty where the image cannot be read."""
        if path not in self._known:
            self._known[path] = self._read(path)
        return self._known[path]

    def _read(self, path: str) -> str:
        try:
            image = read_image_checked(self._root / path)
        except UserError:
            self.missing.add(path)
            return ""
        size = (SIZE[0] * 3 // 2, SIZE[1] * 3 // 2)
        buffer = io.BytesIO()
        image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=QUALITY)
        return data_uri(buffer.getvalue(), "image/jpeg")
