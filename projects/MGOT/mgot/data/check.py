"""Is a data set as it was published, and can every image be opened?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

from mgot.data import sets  # noqa: F401  registers the data sets
from mgot.data.counts import NO_CAUSES, count_searches, differences
from mgot.data.dataset import DATASETS, TwoModalityDataset
from mgot.data.images import read_image_checked
from mgot.data.items import Item, Lists, dataset_folder
from mgot.errors import UserError
from mgot.progress import progress

_FEW = 256  # images below which other processes cost more than they save


@dataclass
class Report:
    """What a check found.

    Attributes:
        counts: (name, found, published) of each count; None if nothing was published.
        differences: what is not as published, or not in order, one line each; empty if all is in order.
        notes: what is worth knowing but is no difference.
        images: images opened.
    """

    counts: list[tuple[str, int, int | None]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    images: int = 0

    def differs(self, line: str) -> None:
        """Add a difference, unless it is known."""
        if line not in self.differences:
            self.differences.append(line)

    def take(
        self,
        where: str,
        found: Mapping[str, int],
        published: Mapping[str, int] | None,
        causes: Mapping[tuple[str, int], str] = NO_CAUSES,
    ) -> None:
        """Add counts, with ``where`` before their names: the published ones, or all if none were published."""
        if published is None:
            self.counts += [(where + name, number, None) for name, number in found.items()]
            return
        self.counts += [(where + name, found[name], number) for name, number in published.items()]
        self.differences += [where + line for line in differences(found, published, causes)]


def check_dataset(name: str, root: str | Path, *, folder: str | None = None, workers: int | None = None) -> Report:
    """Check the files, the counts and every listed image of a data set.

    Args:
        name: one of those in :data:`mgot.data.dataset.DATASETS`.
        root: the folder that holds the data set's.
        folder: the data set's folder below it, if the data set has this option.
        workers: processes that open images; None for one on each core.

    Raises:
        UserError: there is no such data set, or no such folder.
    """
    data = _dataset(name, folder)
    place = dataset_folder(root, data.folder, data.source)
    report = Report()
    for file, source in data.required.items():
        if not (place / file).is_file():
            report.differs(f"{place / file} is missing: {source}")
    splits = data.splits()
    read = [lists for lists in (_read(split, root, report) for split in splits) if lists is not None]
    if len(read) == len(splits):
        report.take("", data.counts_of_all_splits(read), data.expected.of_all_splits)
    paths = sorted({item.path for lists in read for item in _listed(lists)})
    report.images = len(paths)
    _open_all(paths, workers or os.cpu_count() or 1, report)
    return report


def _dataset(name: str, folder: str | None) -> TwoModalityDataset:
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}: choose from {', '.join(sorted(DATASETS))}")
    cls = DATASETS[name]
    if folder is None:
        return cls()
    if "folder" not in signature(cls).parameters:
        raise UserError(f"--folder: the folder of {name} is {cls().folder}: name the folder above it with --root")
    options: dict[str, Any] = {"folder": folder}
    return cls(**options)


def _listed(lists: Lists) -> Iterator[Item]:
    yield from lists.visible
    yield from lists.infrared
    yield from lists.pool


def _read(data: TwoModalityDataset, root: str | Path, report: Report) -> Lists | None:
    """The lists of one split; its counts and searches are added. None if it cannot be read."""
    try:
        lists = data.read(root)
    except UserError as error:
        report.differs(str(error))
        return None
    report.differences += lists.remarks
    where, expected = "" if data.split is None else f"split {data.split}: ", data.expected
    published = bool(expected.counts)
    report.take(where, data.counts(lists), expected.counts if published else None, expected.causes)
    try:
        searches = count_searches(data.protocols(root, lists), lists.pool)
        report.take(where, searches, expected.searches if published else None)
    except UserError as error:
        report.differs(str(error))
    return lists


def _open_all(paths: Sequence[str], workers: int, report: Report) -> None:
    """Open every image; add the unreadable ones, and as a note the images with identical files."""
    first: dict[bytes, str] = {}
    twins: list[tuple[str, str]] = []
    for path, (problem, digest) in zip(paths, progress(_examined(paths, workers), "images", len(paths)), strict=True):
        if problem:
            report.differs(problem)
        elif digest in first:
            twins.append((first[digest], path))
        else:
            first[digest] = path
    if twins:
        report.notes.append(f"{len(twins)} images are copies of another, the first: {twins[0][1]} of {twins[0][0]}")


def _examined(paths: Sequence[str], workers: int) -> Iterable[tuple[str, bytes]]:
    if workers <= 1 or len(paths) < _FEW:
        yield from map(_examine, paths)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_examine, paths, chunksize=64)


def _examine(path: str) -> tuple[str, bytes]:
    """What is wrong with an image, empty if nothing, and a digest of its file."""
    try:
        read_image_checked(path)
        return "", hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except (UserError, OSError) as error:
        return str(error), b""
