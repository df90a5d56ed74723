"""SYSU-MM01, read as downloaded.

On disk::

    SYSU-MM01/cam{1..6}/{ID:04d}/{n:04d}.jpg
    SYSU-MM01/exp/train_id.txt  val_id.txt  test_id.txt     one line of comma-separated IDs each
    SYSU-MM01/exp/rand_perm_cam.mat                         official draws; not in the zip, see DRAWS_SOURCE

Cameras 1, 2, 4, 5 are visible, 3 and 6 infrared. Training = train + val IDs = 395 identities, 22,258 visible and 11,909
infrared images. Test = 96 identities: 3,803 infrared queries (cameras 3 and 6), 6,775 visible images to draw galleries
from (cameras 1, 2, 4, 5).

Source: A. Wu, W.-S. Zheng, H.-X. Yu, S. Gong, J. Lai. RGB-Infrared Cross-Modality Person Re-Identification. ICCV 2017;
A. Wu, W.-S. Zheng, S. Gong, J. Lai. RGB-IR Person Re-Identification by Cross-Modality Similarity Preservation. IJCV
2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mgot.data.counts import Expected, count, count_identities
from mgot.data.dataset import TwoModalityDataset, register_dataset
from mgot.data.items import (
    INFRARED,
    VISIBLE,
    Item,
    Lists,
    cameras,
    dataset_folder,
    identities,
    items_in_camera,
    read_ids,
)
from mgot.errors import UserError
from mgot.evaluation.draws import OfficialDraws, read_official_draws
from mgot.evaluation.protocols import Groups, Protocol, Trial, grouped, joined, require_positive, seeded_gallery

FOLDER = "SYSU-MM01"
SOURCE = "request it from its authors, github.com/wuancong/SYSU-MM01"
DRAWS_FILE = "exp/rand_perm_cam.mat"
DRAWS_SOURCE = "it is not in the data's zip: take it from evaluation/data_split of github.com/wuancong/SYSU-MM01"
VISIBLE_CAMERAS, INFRARED_CAMERAS = (1, 2, 4, 5), (3, 6)
ALL_CAMERAS = (1, 2, 3, 4, 5, 6)
GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
SHOT_NAMES = {1: "single", 10: "multi"}

_NO_VAL = "the val split is missing (exp/val_id.txt), which costs about 5 points"
EXPECTED = Expected(
    counts={
        "visible training images": 22_258,
        "infrared training images": 11_909,
        "training identities": 395,
        "infrared test images": 3_803,
        "visible test images": 6_775,
        "test identities": 96,
        **{
            f"test images of camera {c}": n
            for c, n in zip(ALL_CAMERAS, (1374, 1565, 1883, 1918, 1918, 1920), strict=True)
        },
        **{f"test identities of camera {c}": n for c, n in zip(ALL_CAMERAS, (56, 56, 93, 94, 95, 96), strict=True)},
    },
    causes={
        ("visible training images", 20_284): _NO_VAL,
        ("infrared training images", 9_929): _NO_VAL,
        ("infrared training images", 11_333): _NO_VAL,
        ("training identities", 296): _NO_VAL,
    },
    searches={
        "gallery images of sysu-all-single": 301,
        "valid queries of sysu-all-single": 3_803,
        "gallery images of sysu-all-multi": 3_010,
        "valid queries of sysu-all-multi": 3_803,
        "gallery images of sysu-indoor-single": 112,
        "valid queries of sysu-indoor-single": 2_208,
        "gallery images of sysu-indoor-multi": 1_120,
        "valid queries of sysu-indoor-multi": 2_208,
    },
)


@register_dataset("SYSUMM01")
@dataclass(frozen=True)
class SYSUMM01(TwoModalityDataset):
    """SYSU-MM01.

    Attributes:
        modes, shots, trials: as of :func:`sysu_protocols`.
        draws: "official", "seeded", or "auto": official if ``exp/rand_perm_cam.mat`` exists.
        validation: train on the train IDs, and use the val IDs in place of the test IDs.
    """

    folder = FOLDER
    source = SOURCE
    required: ClassVar[Mapping[str, str]] = {
        "exp/train_id.txt": SOURCE,
        "exp/val_id.txt": SOURCE,
        "exp/test_id.txt": SOURCE,
        DRAWS_FILE: DRAWS_SOURCE,
    }
    modes: Sequence[str] = ("all", "indoor")
    shots: Sequence[int] = (1, 10)
    draws: str = "auto"
    trials: int = 10
    validation: bool = False

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        test = keys.TEST
        return {"modes": test.SYSU_MODES, "shots": test.SYSU_SHOTS, "draws": test.DRAWS, "trials": test.TRIALS}

    @classmethod
    def validation_options(cls) -> dict[str, Any]:
        return {"validation": True}

    @property
    def expected(self) -> Expected:
        """Nothing if the validation people are scored: the published counts have them among the training people."""
        return Expected() if self.validation else EXPECTED

    def read(self, root: str | Path) -> Lists:
        """See :func:`read_sysu`."""
        return read_sysu(root, validation=self.validation)

    def counts(self, lists: Lists) -> dict[str, int]:
        found = count(lists)
        for camera in ALL_CAMERAS:
            own = [item for item in lists.pool if item.camera == camera]
            found[f"test images of camera {camera}"] = len(own)
            found[f"test identities of camera {camera}"] = count_identities(own)
        return found

    def protocols(self, root: str | Path, lists: Lists) -> list[Protocol]:
        """See :func:`sysu_protocols`.

        Raises:
            UserError: official draws are chosen and their file is missing or belongs to another copy, or an option has
                a wrong value.
        """
        if self.draws not in ("auto", "official", "seeded"):
            raise UserError(f"draws must be 'auto', 'official' or 'seeded', not {self.draws!r}")
        official = None if self.draws == "seeded" else official_draws(root)
        if self.draws == "official" and official is None:
            raise UserError(f"{Path(root) / FOLDER / DRAWS_FILE} is missing: {DRAWS_SOURCE}; or choose draws 'seeded'")
        pool = lists.pool
        options: dict[str, Any] = {"modes": self.modes, "shots": self.shots, "trials": self.trials}
        return sysu_protocols(identities(pool), cameras(pool), official=official, **options)


def read_sysu(root: str | Path, *, validation: bool = False) -> Lists:
    """The lists of ``<root>/SYSU-MM01``, each in the order camera, identity, file name.

    A copy without ``val_id.txt`` trains only on the train IDs; the remarks say so. ``validation`` does that too. The
    val IDs then take the place of the test IDs, and no test ID is in any list.

    Raises:
        UserError: the folder, a camera's folder or a list of IDs that is needed is missing or malformed, an identity is
            in two splits, or a list is empty.
    """
    folder = dataset_folder(root, FOLDER, SOURCE)
    for camera in ALL_CAMERAS:
        if not (folder / f"cam{camera}").is_dir():
            raise UserError(f"{folder / f'cam{camera}'} is missing: the copy is incomplete, unpack the zip again")
    remarks: list[str] = []
    train, test = _splits_of_validation(folder) if validation else _splits(folder, remarks)

    def items(split: Iterable[int], of_cameras: Iterable[int], modality: int) -> list[Item]:
        return [item for camera in of_cameras for item in items_in_camera(folder, camera, split, modality, remarks)]

    lists = Lists(
        items(train, VISIBLE_CAMERAS, VISIBLE),
        items(train, INFRARED_CAMERAS, INFRARED),
        items(test, INFRARED_CAMERAS, INFRARED),
        items(test, VISIBLE_CAMERAS, VISIBLE),
        remarks,
    )
    lists.require_images(folder)
    return lists


def _splits(folder: Path, remarks: list[str]) -> tuple[list[int], list[int]]:
    """Training and test identities."""
    train = read_ids(folder / "exp/train_id.txt", SOURCE)
    test = read_ids(folder / "exp/test_id.txt", SOURCE)
    if (folder / "exp/val_id.txt").is_file():
        train = sorted({*train, *read_ids(folder / "exp/val_id.txt", SOURCE)})
    else:
        remarks.append(f"{folder / 'exp/val_id.txt'} is missing: training has no val split, which costs about 5 points")
    _refuse_shared(folder, train, test, "test_id.txt")
    return train, test


def _splits_of_validation(folder: Path) -> tuple[list[int], list[int]]:
    """The train IDs, and the val IDs in place of the test IDs."""
    train, val = (read_ids(folder / f"exp/{name}_id.txt", SOURCE) for name in ("train", "val"))
    _refuse_shared(folder, train, val, "val_id.txt")
    return train, val


def _refuse_shared(folder: Path, train: Iterable[int], scored: Iterable[int], name: str) -> None:
    both = sorted(set(train) & set(scored))
    if both:
        raise UserError(f"{folder / 'exp'}: identities {both[:5]} are both in training and in {name}")


def official_draws(root: str | Path) -> OfficialDraws | None:
    """The official draws of ``<root>/SYSU-MM01``; None if their file is missing."""
    path = Path(root) / FOLDER / DRAWS_FILE
    return read_official_draws(path) if path.is_file() else None


def sysu_protocols(
    identities: np.ndarray,
    cameras: np.ndarray,
    *,
    modes: Sequence[str] = ("all", "indoor"),
    shots: Sequence[int] = (1, 10),
    official: OfficialDraws | None = None,
    trials: int = 10,
) -> list[Protocol]:
    """SYSU-MM01's protocols, named "sysu-<mode>-<single|multi>".

    The queries are all images of cameras 3 and 6. The gallery of a trial is ``shots`` images (all, if there are fewer)
    of each identity in each of the mode's cameras.

    Args:
        identities: (N,) of the pool.
        cameras: (N,) of the pool, 1..6; the images of one camera and identity are in the order of their file names.
        modes: of "all" (cameras 1, 2, 4, 5) and "indoor" (cameras 1, 2).
        shots: images of each identity and camera; 1 and 10 are the official ones.
        official: the official draws; None for those of :func:`mgot.evaluation.protocols.seeded_gallery`.
        trials: T >= 1, trials 0..T-1; the official draws have ten.

    Raises:
        UserError: an unknown mode, a number of shots or trials below 1, or draws of another copy.
    """
    require_positive(shots=min(shots, default=0), trials=trials)
    groups = grouped(identities, cameras, np.arange(len(identities)))
    query = np.flatnonzero(np.isin(cameras, INFRARED_CAMERAS))
    draws = "seeded" if official is None else "official"
    protocols = []
    for mode in modes:
        if mode not in GALLERY_CAMERAS:
            raise UserError(f"SYSU-MM01 has no mode {mode!r}: choose from {', '.join(GALLERY_CAMERAS)}")
        own = {key: group for key, group in groups.items() if key[0] in GALLERY_CAMERAS[mode]}
        for n in shots:
            name = f"sysu-{mode}-{SHOT_NAMES.get(n, f'{n}-shot')}"
            galleries = [
                seeded_gallery(own, t, n) if official is None else _official_gallery(own, official, t, n)
                for t in range(trials)
            ]
            searches = tuple(Trial(query, gallery) for gallery in galleries)
            protocols.append(Protocol(name, searches, "sysu-same-place", True, draws))
    return protocols


def _official_gallery(groups: Groups, official: OfficialDraws, trial: int, shots: int) -> np.ndarray:
    return joined(
        group[official.drawn(camera, identity, len(group), trial, shots)]
        for (camera, identity), group in groups.items()
    )
