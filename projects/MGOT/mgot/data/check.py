"""Is a data set as it was published, and can every image be opened?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mgot.data import llcm, regdb, sysu
from mgot.data.counts import Expected, differences
from mgot.data.images import read_image_checked
from mgot.data.items import Item, Lists, dataset_folder
from mgot.errors import UserError
from mgot.progress import progress

_READERS = {"SYSUMM01": sysu, "RegDB": regdb, "LLCM": llcm}
NAMES = tuple(_READERS)
_FEW = 256  # images below which other processes cost more than they save


@dataclass
class Report:
    """What a check found.

    Attributes:
        counts: (name, found, expected) of each count.
        differences: what is not as published, one line each; an empty list is a pass.
        notes: what may be as published and is worth knowing.
        images: images opened.
    """

    counts: list[tuple[str, int, int]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    images: int = 0

    def differs(self, line: str) -> None:
        """Take in a difference, unless it is known."""
        if line not in self.differences:
            self.differences.append(line)

    def compare(self, where: str, found: dict[str, int], expected: Expected) -> None:
        """Take in counts; ``where`` is put before their names."""
        self.counts += [(where + name, found[name], number) for name, number in expected.counts.items()]
        self.differences += [where + line for line in differences(found, expected)]


def check_dataset(name: str, root: str | Path, *, workers: int | None = None) -> Report:
    """Check the files, the counts and every listed image of a data set.

    Args:
        name: one of :data:`NAMES`.
        root: the folder that holds the data set's.
        workers: processes that open images; None for one a core.

    Raises:
        UserError: there is no such data set, or no such folder.
    """
    if name not in _READERS:
        raise UserError(f"there is no data set {name!r}: choose from {', '.join(NAMES)}")
    reader = _READERS[name]
    folder = dataset_folder(root, reader.FOLDER, reader.SOURCE)
    report = Report()
    for file, source in reader.REQUIRED_FILES.items():
        if not (folder / file).is_file():
            report.differs(f"{folder / file} is missing: {source}")
    paths = sorted({item.path for lists in _read_all(name, root, report) for item in _listed(lists)})
    report.images = len(paths)
    _open_all(paths, workers or os.cpu_count() or 1, report)
    return report


def _listed(lists: Lists) -> Iterator[Item]:
    yield from lists.visible
    yield from lists.infrared
    yield from lists.pool


def _read_all(name: str, root: str | Path, report: Report) -> list[Lists]:
    """The lists of every split that can be read, their counts taken in."""
    if name == "SYSUMM01":
        return _read_sysu(root, report)
    if name == "RegDB":
        return _read_regdb(root, report)
    try:
        lists = llcm.read_llcm(root)
    except UserError as error:
        report.differs(str(error))
        return []
    report.differences += lists.remarks
    report.compare("", llcm.counts(lists), llcm.EXPECTED)
    return [lists]


def _read_sysu(root: str | Path, report: Report) -> list[Lists]:
    try:
        lists = sysu.read_sysu(root)
    except UserError as error:
        report.differs(str(error))
        return []
    report.differences += lists.remarks
    report.compare("", sysu.counts(lists), sysu.EXPECTED)
    try:
        report.compare("", sysu.search_counts(root, lists), Expected(sysu.EXPECTED_SEARCHES, {}))
    except UserError as error:
        report.differs(str(error))
    return [lists]


def _read_regdb(root: str | Path, report: Report) -> list[Lists]:
    read = []
    for split in regdb.SPLITS:
        try:
            lists = regdb.read_regdb(root, split)
        except UserError as error:
            report.differs(str(error))
            continue
        report.differences += lists.remarks
        report.compare(f"split {split}: ", regdb.counts(lists), regdb.EXPECTED)
        read.append(lists)
    if len(read) == len(regdb.SPLITS):
        visible = {item.path for lists in read for item in lists.visible + lists.gallery}
        thermal = {item.path for lists in read for item in lists.infrared + lists.query}
        found = dict(zip(regdb.EXPECTED_IN_ALL, (len(visible), len(thermal)), strict=True))
        report.compare("", found, Expected(regdb.EXPECTED_IN_ALL, {}))
    return read


def _open_all(paths: Sequence[str], workers: int, report: Report) -> None:
    """Open every image; take in the unreadable ones, and, as a note, those whose files are the same."""
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
    """What is wrong with an image, empty for nothing, and a digest of its file."""
    try:
        read_image_checked(path)
        return "", hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except (UserError, OSError) as error:
        return str(error), b""
