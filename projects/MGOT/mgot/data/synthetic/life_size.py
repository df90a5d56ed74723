"""A tree of SYSU-MM01's exact counts, to test a machine before the data set is there. [ours]

One picture is rendered for each identity and camera. Hard links repeat it as often as that camera has images of the
identity. Lists, counts and searches are those of SYSU-MM01; images of an identity differ by the camera only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import savemat

from mgot.data.sets.sysu import ALL_CAMERAS, DRAWS_FILE, EXPECTED, INFRARED_CAMERAS, VISIBLE_CAMERAS
from mgot.data.synthetic.layout import TRIALS, Shot, write_tree
from mgot.data.synthetic.settings import Settings

TRAIN, VALIDATION, TEST = 296, 99, 96
_OF_VALIDATION = {VISIBLE_CAMERAS: 1_974, INFRARED_CAMERAS: 1_980}  # images; without them 20,284 and 9,929 are left
_INDOORS = 56  # test identities that cameras 1 and 2 saw
_NOT_BY_CAMERA_3 = 3  # of these
_BY_CAMERA_3 = 1_088  # images of the others of these: with camera 6's the 2,208 valid queries of the indoor search
_MISSED = {4: {94, 95}, 5: {93}}  # test identities, counted from 0, that these cameras did not see
_SEED = 5

Place = tuple[int, int]
"""(camera, identity)."""


@dataclass(frozen=True)
class LifeSize(Settings):
    """Settings of such a tree. The numbers of people and images are SYSU-MM01's; the fields per camera are ignored."""

    like: str = "sysu"
    train_identities: int = TRAIN + VALIDATION
    validation_identities: int | None = VALIDATION
    test_identities: int = TEST


def write_life_size(root: str | os.PathLike[str], settings: LifeSize, processes: int | None = None) -> Path:
    """Write ``<root>/SYSU-MM01``; returns the tree's folder.

    Raises:
        UserError: as :func:`mgot.data.synthetic.layout.write_tree`.
    """
    counts = published_counts()
    shots = [Shot(identity, camera, 1, _path(camera, identity, 1)) for camera, identity in sorted(counts)]
    return write_tree(Path(root) / "SYSU-MM01", settings, shots, partial(_finish, counts), processes)


def published_counts() -> dict[Place, int]:
    """Images of each camera and identity, which give every published count.

    Training identities come first, with those of validation last, then the test identities. The published sums are
    divided evenly among the people [ours].
    """
    counts: dict[Place, int] = {}
    people = range(1, TRAIN + VALIDATION + 1)
    for cameras, name in ((VISIBLE_CAMERAS, "visible"), (INFRARED_CAMERAS, "infrared")):
        of_validation = _OF_VALIDATION[cameras]
        of_training = EXPECTED.counts[f"{name} training images"] - of_validation
        counts.update(_shared(((c, i) for i in people[:TRAIN] for c in cameras), of_training))
        counts.update(_shared(((c, i) for i in people[TRAIN:] for c in cameras), of_validation))
    first = people.stop
    for camera in ALL_CAMERAS:
        total = EXPECTED.counts[f"test images of camera {camera}"]
        for seen, images in _test_people(camera, total):
            counts.update(_shared(((camera, first + n) for n in seen), images))
    return counts


def _test_people(camera: int, total: int) -> list[tuple[list[int], int]]:
    """Groups of test identities, counted from 0, that a camera saw, and the images of each group together."""
    if camera in (1, 2):
        return [(list(range(_INDOORS)), total)]
    if camera == 3:
        return [
            (list(range(_INDOORS - _NOT_BY_CAMERA_3)), _BY_CAMERA_3),
            (list(range(_INDOORS, TEST)), total - _BY_CAMERA_3),
        ]
    return [([n for n in range(TEST) if n not in _MISSED.get(camera, ())], total)]


def _shared(places: Iterable[Place], total: int) -> dict[Place, int]:
    """A number of images divided evenly; the first places get the remaining ones, one each."""
    listed = list(places)
    each, rest = divmod(total, len(listed))
    return {place: each + (n < rest) for n, place in enumerate(listed)}


def _path(camera: int, identity: int, number: int) -> str:
    return f"cam{camera}/{identity:04d}/{number:04d}.jpg"


def _finish(counts: Mapping[Place, int], tree: Path, settings: Settings) -> None:
    """The further images, the lists and the draws of a tree that has the first image of each place."""
    for (camera, identity), count in counts.items():
        for number in range(2, count + 1):
            _double(f"{tree}/{_path(camera, identity, 1)}", f"{tree}/{_path(camera, identity, number)}")
    (tree / "exp").mkdir()
    starts = {"train": 1, "val": TRAIN + 1, "test": TRAIN + VALIDATION + 1}
    for (name, start), size in zip(starts.items(), (TRAIN, VALIDATION, TEST), strict=True):
        members = ",".join(map(str, range(start, start + size)))
        (tree / f"exp/{name}_id.txt").write_text(members + "\n", encoding="utf-8")
    savemat(tree / DRAWS_FILE, {"rand_perm_cam": _draws(counts, settings.seed)})


def _double(file: str, copy: str) -> None:
    try:
        os.link(file, copy)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, copy)


def _draws(counts: Mapping[Place, int], seed: int) -> np.ndarray:
    """``rand_perm_cam`` as MATLAB keeps it: a cell a camera, in it a cell an identity, in it (10, images) from 1 on."""
    people = max(identity for _, identity in counts)
    outer = np.empty((len(ALL_CAMERAS), 1), dtype=object)
    for row, camera in enumerate(ALL_CAMERAS):
        inner = np.empty((people, 1), dtype=object)
        for identity in range(1, people + 1):
            count = counts.get((camera, identity), 0)
            rng = np.random.default_rng([seed, _SEED, identity, camera])
            rows = [rng.permutation(count) + 1 for _ in range(TRIALS)] if count else np.zeros((0, 0))
            inner[identity - 1, 0] = np.array(rows, dtype=np.uint8)
        outer[row, 0] = inner
    return outer
