"""What every data set gives: items. And the helpers that readers share.

Nothing of fast-reid is imported here, so the readers work without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgot.errors import UserError, shortened
from mgot.files import require_regular

VISIBLE = 1
INFRARED = 0
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


class Item(NamedTuple):
    """One image; its first three fields are fast-reid's (path, pid, camid).

    Attributes:
        path: the image file, under the data root.
        identity: the person. Ground truth: scoring and diagnostics only, never training (docs/protocols.md, common
            rules). :data:`mgot.truth.UNKNOWN_IDENTITY` if it is not known, which only training images may have.
        camera: the data set's own camera number.
        modality: :data:`VISIBLE` or :data:`INFRARED`.
    """

    path: str
    identity: int
    camera: int
    modality: int


class Lists(NamedTuple):
    """The four lists of a data set.

    Attributes:
        visible: training images of the visible modality.
        infrared: training images of the infrared modality.
        query: the test images that are first in the pool: all infrared ones.
        gallery: the test images that are second in the pool: all visible ones.
        remarks: what the reader skipped or noticed, one line each (an ID folder without an image, a list naming a file
            twice).
    """

    visible: list[Item]
    infrared: list[Item]
    query: list[Item]
    gallery: list[Item]
    remarks: list[str]

    @property
    def pool(self) -> list[Item]:
        """query + gallery: all test images, in the order that a protocol's indices refer to."""
        return self.query + self.gallery

    def require_images(self, folder: Path) -> None:
        """Raise UserError if one of the four lists is empty; the message names ``folder``."""
        names = ("visible training", "infrared training", "infrared test", "visible test")
        for name, found in zip(names, self[:4], strict=True):
            if not found:
                raise UserError(f"{folder} holds no {name} image of the identities listed: the copy is incomplete")


def identities(items: Iterable[Item]) -> np.ndarray:
    """(N,) int64 identities of the items."""
    return np.array([item.identity for item in items], dtype=np.int64)


def cameras(items: Iterable[Item]) -> np.ndarray:
    """(N,) int64 cameras of the items."""
    return np.array([item.camera for item in items], dtype=np.int64)


def dataset_folder(root: str | Path, name: str, source: str) -> Path:
    """The folder ``<root>/<name>``; ``source`` says where the data set comes from.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(root) / name
    if not os.path.isdir(folder):
        raise UserError(
            f"{folder} is not a folder: set FASTREID_DATASETS, or --root, to the folder that holds {name}/ ({source})"
        )
    return folder


def images_in(folder: str | Path) -> list[str]:
    """Paths of the images right in a folder, by name. Hidden files (``._0001.jpg``) and other files are skipped.

    No folder has no images.

    Raises:
        UserError: the folder cannot be looked into.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder} cannot be looked into ({error.strerror}): restore it from the archive") from None
    return [
        os.path.join(folder, name)
        for name in sorted(names)
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")
    ]


def read_text(path: Path, source: str) -> str:
    """Text of a list file.

    Raises:
        UserError: the file is missing or is not text.
    """
    try:
        require_regular(path)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {source}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): {source}") from None


def read_ids(path: Path, source: str) -> list[int]:
    """Sorted identities of a file that holds comma-separated numbers.

    Raises:
        UserError: the file is missing, holds something that is no number, or holds none.
    """
    words = read_text(path, source).replace(",", " ").split()
    for word in words:
        if not _NUMBER.fullmatch(word):
            told = shortened(repr(word), 100)
            raise UserError(f"{path}: {told} is not an identity: the file must hold comma-separated numbers")
    if not words:
        raise UserError(f"{path} names no identity: {source}")
    return sorted({int(word) for word in words})


def read_labelled_paths(path: Path, root: Path, source: str, remarks: list[str]) -> list[tuple[Path, int]]:
    """(image, label) of each line ``relative/path label`` of a list file; empty lines are skipped.

    The label is the line's last word, so a path may contain spaces. A file named twice is kept twice, as in the
    released codes, with a remark.

    Raises:
        UserError: the file is missing or names no image, a line has no label, its path leaves the root, or its image is
            missing.
    """
    found: list[tuple[Path, int]] = []
    seen: set[Path] = set()
    for number, line in enumerate(read_text(path, source).splitlines(), start=1):
        if not line.strip():
            continue
        relative, _, label = line.strip().rpartition(" ")
        if not relative or not _NUMBER.fullmatch(label):
            told = shortened(repr(line.strip()), 100)
            raise UserError(f"{path}, line {number}: {told} is not 'relative/path label'")
        image = _inside(root, relative.strip(), f"{path}, line {number}")
        if image in seen:
            remarks.append(f"{path}, line {number}: {relative.strip()} is listed twice")
        seen.add(image)
        found.append((image, int(label)))
    if not found:
        raise UserError(f"{path} names no image: {source}")
    return found


def items_in_camera(
    folder: Path, camera: int, split: Iterable[int], modality: int, remarks: list[str]
) -> Iterator[Item]:
    """Items of the identities ``split`` under ``<folder>/cam<camera>/<ID:04d>/``, by identity and name.

    An identity that the camera did not see has no folder. A folder without an image gives a remark.
    """
    for identity in split:
        place = folder / f"cam{camera}" / f"{identity:04d}"
        images = images_in(place)
        if not images and os.path.isdir(place):
            remarks.append(f"{place} holds no image")
        for image in images:
            yield Item(image, identity, camera, modality)


def leads_out(relative: str) -> bool:
    """Whether the text of a path is absolute, names another drive, or contains ``..``."""
    parts = relative.replace("\\", "/").split("/")
    return relative.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]


def require_inside(path: str | Path, tree: Path) -> None:
    """Check that no link leads a path out of ``tree``. The tree itself may be a link.

    Raises:
        UserError: the file or folder is outside.
    """
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(tree)):
        raise UserError(f"{path} is a link out of {tree}: put the images themselves there")


def _inside(root: Path, relative: str, where: str) -> Path:
    """``root / relative``; refused where the text leads out of the root or to no file."""
    told = shortened(repr(relative), 200)
    if leads_out(relative):
        raise UserError(f"{where}: {told} points outside {root}: list paths must be relative and free of '..'")
    image = root.joinpath(*relative.replace("\\", "/").split("/"))
    if not os.path.isfile(image):  # False too for what can be no path
        raise UserError(f"{where}: {told} is missing in {root}: the copy is incomplete, or the list of another one")
    return image
