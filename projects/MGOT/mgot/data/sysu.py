"""SYSU-MM01, read as downloaded.

On disk::

    SYSU-MM01/cam{1..6}/{ID:04d}/{n:04d}.jpg
    SYSU-MM01/exp/train_id.txt  val_id.txt  test_id.txt     one line of comma-separated IDs each
    SYSU-MM01/exp/rand_perm_cam.mat                         official draws; not in the zip, see :data:`DRAWS_SOURCE`

Cameras 1, 2, 4, 5 are visible, 3 and 6 infrared. Training = train + val IDs = 395 identities, 22,258 visible and 11,909
infrared images. Test = 96 identities: 3,803 infrared queries (cameras 3 and 6), 6,775 visible images to draw galleries
from (cameras 1, 2, 4, 5).

Source: A. Wu, W.-S. Zheng, H.-X. Yu, S. Gong, J. Lai. RGB-Infrared Cross-Modality Person Re-Identification. ICCV 2017;
A. Wu, W.-S. Zheng, S. Gong, J. Lai. RGB-IR Person Re-Identification by Cross-Modality Similarity Preservation. IJCV
2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mgot.data.counts import Expected, count, count_identities
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
from mgot.evaluation.protocols import Protocol, sysu_protocols, valid_queries

FOLDER = "SYSU-MM01"
SOURCE = "request it from its authors, github.com/wuancong/SYSU-MM01"
DRAWS_FILE = "exp/rand_perm_cam.mat"
DRAWS_SOURCE = "it is not in the data's zip: take it from evaluation/data_split of github.com/wuancong/SYSU-MM01"
VISIBLE_CAMERAS, INFRARED_CAMERAS = (1, 2, 4, 5), (3, 6)
ALL_CAMERAS = (1, 2, 3, 4, 5, 6)

_NO_VAL = "the val split is missing (exp/val_id.txt), which costs about 5 points"
REQUIRED_FILES = {
    "exp/train_id.txt": SOURCE,
    "exp/val_id.txt": SOURCE,
    "exp/test_id.txt": SOURCE,
    DRAWS_FILE: DRAWS_SOURCE,
}
EXPECTED = Expected(
    {
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
    {
        ("visible training images", 20_284): _NO_VAL,
        ("infrared training images", 9_929): _NO_VAL,
        ("infrared training images", 11_333): _NO_VAL,
        ("training identities", 296): _NO_VAL,
    },
)
EXPECTED_SEARCHES = {
    "gallery images of sysu-all-single": 301,
    "valid queries of sysu-all-single": 3_803,
    "gallery images of sysu-all-multi": 3_010,
    "valid queries of sysu-all-multi": 3_803,
    "gallery images of sysu-indoor-single": 112,
    "valid queries of sysu-indoor-single": 2_208,
    "gallery images of sysu-indoor-multi": 1_120,
    "valid queries of sysu-indoor-multi": 2_208,
}


def read_sysu(root: str | Path, *, validation: bool = False) -> Lists:
    """The lists of ``<root>/SYSU-MM01``, each in the order camera, identity, file name.

    A copy without ``val_id.txt`` trains on the train IDs alone; the remarks say so. With ``validation`` the train IDs
    alone are trained on too, and the val IDs stand where the test IDs would; nobody of the test IDs is in any list.

    Raises:
        UserError: the folder, a camera's folder or a list of IDs that is needed is missing or malformed, an identity
            stands in two splits, or a list comes out empty.
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
        remarks.append(
            f"{folder / 'exp/val_id.txt'} is missing: training goes without the val split, which costs about 5 points"
        )
    _refuse_shared(folder, train, test, "test_id.txt")
    return train, test


def _splits_of_validation(folder: Path) -> tuple[list[int], list[int]]:
    """The train IDs, and the val IDs in the place of the test IDs."""
    train, val = (read_ids(folder / f"exp/{name}_id.txt", SOURCE) for name in ("train", "val"))
    _refuse_shared(folder, train, val, "val_id.txt")
    return train, val


def _refuse_shared(folder: Path, train: Iterable[int], scored: Iterable[int], name: str) -> None:
    both = sorted(set(train) & set(scored))
    if both:
        raise UserError(f"{folder / 'exp'}: identities {both[:5]} stand both in training and in {name}")


def counts(lists: Lists) -> dict[str, int]:
    """The counts that :data:`EXPECTED` holds."""
    found = count(lists)
    for camera in ALL_CAMERAS:
        own = [item for item in lists.pool if item.camera == camera]
        found[f"test images of camera {camera}"] = len(own)
        found[f"test identities of camera {camera}"] = count_identities(own)
    return found


def search_counts(root: str | Path, lists: Lists) -> dict[str, int]:
    """The counts that :data:`EXPECTED_SEARCHES` holds, in the first trial.

    Raises:
        UserError: the official draws are there and do not fit the copy.
    """
    pool = lists.pool
    found = {}
    for protocol in protocols(root, lists, trials=1):
        trial = protocol.trials[0]
        found[f"gallery images of {protocol.name}"] = len(trial.gallery)
        valid = valid_queries(trial, protocol.drop, identities(pool), cameras(pool))
        found[f"valid queries of {protocol.name}"] = int(valid.sum())
    return found


def official_draws(root: str | Path) -> OfficialDraws | None:
    """The official draws of ``<root>/SYSU-MM01``, None where their file is absent."""
    path = Path(root) / FOLDER / DRAWS_FILE
    return read_official_draws(path) if path.is_file() else None


def protocols(
    root: str | Path,
    lists: Lists,
    *,
    modes: Sequence[str] = ("all", "indoor"),
    shots: Sequence[int] = (1, 10),
    draws: str = "auto",
    trials: int = 10,
) -> list[Protocol]:
    """The protocols of a copy of SYSU-MM01 over the pool ``lists.pool``; keys as in :func:`sysu_protocols`.

    ``draws`` is "official", "seeded", or "auto": official where ``exp/rand_perm_cam.mat`` is there.

    Raises:
        UserError: official draws are asked for and their file is absent, or a value is none of the above.
    """
    if draws not in ("auto", "official", "seeded"):
        raise UserError(f"draws must be 'auto', 'official' or 'seeded', not {draws!r}")
    official = None if draws == "seeded" else official_draws(root)
    if draws == "official" and official is None:
        raise UserError(f"{Path(root) / FOLDER / DRAWS_FILE} is missing: {DRAWS_SOURCE}; or choose draws 'seeded'")
    pool = lists.pool
    return sysu_protocols(identities(pool), cameras(pool), modes=modes, shots=shots, official=official, trials=trials)
