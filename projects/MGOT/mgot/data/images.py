"""Reads one image and resizes it. Errors name the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mgot.errors import UserError
from mgot.files import require_regular

MAX_PIXELS = 1 << 26


def read_image_checked(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image file completely, as RGB.

    Args:
        path: the file.
        max_pixels: width x height above which the file is refused before it is decoded. A small file can claim to be
            enormous. A crop of a person has about a hundredth of the default, 67 million.

    Raises:
        UserError: the file is missing, empty, truncated, no image, or too large; the message names it.
    """
    try:
        require_regular(path)
        with Image.open(path) as image:
            if image.width * image.height > max_pixels:
                raise UserError(f"{path} claims {image.width} x {image.height} pixels, over {max_pixels}: replace it")
            return image.convert("RGB")
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing: restore it from the data set's archive") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        reason = "is empty" if _is_empty(path) else f"cannot be decoded ({error})"
        raise UserError(f"{path} {reason}: restore it from the data set's archive") from None


def pixels(image: Image.Image, size: Sequence[int]) -> np.ndarray:
    """(3, height, width) uint8 of an RGB image at ``size`` (height, width); bicubic, as fast-reid resizes."""
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image).transpose(2, 0, 1)


def _is_empty(path: str | Path) -> bool:
    try:
        return Path(path).stat().st_size == 0
    except (OSError, ValueError):
        return False
