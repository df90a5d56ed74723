"""The images of a folder, at any depth, and how changes are noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mgot.data.items import IMAGE_SUFFIXES
from mgot.errors import UserError

SUFFIXES = IMAGE_SUFFIXES | {".jfif", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}


class ImageFile(NamedTuple):
    """One image file; two have the same content if all fields are equal.

    Attributes:
        path: relative to the gallery, with slashes.
        size: bytes.
        modified: time of the last change in nanoseconds.
    """

    path: str
    size: int
    modified: int


def require_folder(folder: Path) -> None:
    """Raise UserError if a gallery is missing or is a file."""
    if not os.path.isdir(folder):
        reason = "is a file" if os.path.exists(folder) else "does not exist"
        raise UserError(f"--gallery {folder} {reason}: name the folder that holds the images to search")


def list_gallery(folder: Path) -> list[ImageFile]:
    """The image files below a folder, by path; hidden files and folders are skipped, links are followed.

    Raises:
        UserError: the folder is missing, is a file, holds no image, or a folder below it may not be read.
    """
    require_folder(folder)
    try:
        files = sorted(_below(folder, folder, frozenset()))
    except OSError as error:
        raise UserError(f"--gallery: {error.filename} cannot be read ({error.strerror})") from None
    if not files:
        raise UserError(f"--gallery {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    return files


def _below(root: Path, folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[ImageFile]:
    """Files below one folder; ``above`` holds the folders that lead to it, against loops through links."""
    about = folder.stat()
    here = (about.st_dev, about.st_ino)
    if here in above:
        return
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _below(root, Path(entry.path), above | {here})
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                facts = entry.stat()
                yield ImageFile(Path(entry.path).relative_to(root).as_posix(), facts.st_size, facts.st_mtime_ns)
