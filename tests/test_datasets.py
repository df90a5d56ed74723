"""The readers and their registered classes, on small trees, on the real sets' counts, and on bad copies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy.io import loadmat

from mgot.data.counts import count, count_searches, differences
from mgot.data.items import INFRARED, VISIBLE, Item, Lists
from mgot.data.sets import llcm, regdb, sysu
from mgot.data.sets.regdb import RegDB
from mgot.data.sets.sysu import SYSUMM01
from mgot.errors import UserError
from mgot.evaluation import read_official_draws
from tests.trees import (
    LLCM_TEST_COUNTS,
    SYSU_COUNTS,
    SYSU_SPLITS,
    llcm_tree,
    random_draws,
    regdb_tree,
    save_draws,
    sysu_tree,
)

OFFICIAL = Path(__file__).resolve().parents[2] / "shared" / "sysu-mm01"
needs_official = pytest.mark.skipif(
    not (OFFICIAL / "rand_perm_cam.mat").is_file(), reason=f"SYSU-MM01's official draws are not at {OFFICIAL}"
)


def total(cameras: tuple[int, ...], *splits: str) -> int:
    ids = [identity for split in splits for identity in SYSU_SPLITS[split]]
    return sum(n for (camera, identity), n in SYSU_COUNTS.items() if camera in cameras and identity in ids)


def test_sysu_lists(tmp_path: Path) -> None:
    sysu_tree(tmp_path)
    lists = sysu.read_sysu(tmp_path)
    assert len(lists.visible) == total((1, 2, 4, 5), "train", "val")
    assert len(lists.infrared) == total((3, 6), "train", "val")
    assert len(lists.query) == total((3, 6), "test")
    assert len(lists.gallery) == total((1, 2, 4, 5), "test")
    assert lists.remarks == []
    for items, modality in ((lists.visible + lists.gallery, VISIBLE), (lists.infrared + lists.query, INFRARED)):
        assert {item.modality for item in items} == {modality}
    for item in lists.pool:
        camera, identity, name = Path(item.path).parts[-3:]
        assert (camera, identity) == (f"cam{item.camera}", f"{item.identity:04d}")
        assert name.endswith(".jpg")
    order = [(item.camera, item.identity, item.path) for item in lists.gallery]
    assert order == sorted(order)


def test_items_are_what_the_host_takes() -> None:
    item = Item("a.jpg", 3, 6, INFRARED)
    assert (item[0], item[1], item[2]) == ("a.jpg", 3, 6)


@pytest.mark.parametrize("name", ["数据 cam7 é", "cam1/0001"])
def test_roots_that_break_parsers_of_offsets(tmp_path: Path, name: str) -> None:
    """Roots that are not ASCII, hold "cam", or look like the data themselves; reached through a link."""
    sysu_tree(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / name, target_is_directory=True)
    lists = sysu.read_sysu(tmp_path / "link")
    assert {item.camera for item in lists.pool} == {1, 2, 3, 4, 5, 6}
    assert {item.identity for item in lists.pool} == set(SYSU_SPLITS["test"])


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Makes a tree read-only, and writable again when the test is over."""
    folders: list[Path] = []

    def freeze(top: Path) -> None:
        for place, _, _ in os.walk(top):
            folders.append(Path(place))
            os.chmod(place, 0o555)

    yield freeze
    for folder in folders:
        os.chmod(folder, 0o755)


def test_read_only_folders(tmp_path: Path, frozen: Callable[[Path], None]) -> None:
    folder = sysu_tree(tmp_path)
    save_draws(folder / sysu.DRAWS_FILE, random_draws(SYSU_COUNTS))
    frozen(tmp_path)
    lists = sysu.read_sysu(tmp_path)
    assert len(SYSUMM01().protocols(tmp_path, lists)) == 4


def test_draws_are_official_where_the_file_is(tmp_path: Path) -> None:
    folder = sysu_tree(tmp_path)
    lists = sysu.read_sysu(tmp_path)

    def used(draws: str) -> set[str]:
        return {protocol.draws for protocol in SYSUMM01(draws=draws).protocols(tmp_path, lists)}

    assert used("auto") == {"seeded"}
    with pytest.raises(UserError, match=r"rand_perm_cam\.mat is missing: it is not in the data's zip"):
        used("official")
    save_draws(folder / sysu.DRAWS_FILE, random_draws(SYSU_COUNTS))
    assert used("auto") == used("official") == {"official"}
    assert used("seeded") == {"seeded"}
    with pytest.raises(UserError, match="draws must be 'auto', 'official' or 'seeded', not 'random'"):
        used("random")


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    folder = sysu_tree(tmp_path)
    before = sysu.read_sysu(tmp_path)
    for name in ("Thumbs.db", "._0001.jpg", ".DS_Store", "notes.txt"):
        (folder / "cam1/0001" / name).write_bytes(b"x")
    assert sysu.read_sysu(tmp_path) == before


def test_an_empty_identity_folder_is_remarked(tmp_path: Path) -> None:
    folder = sysu_tree(tmp_path)
    before = sysu.read_sysu(tmp_path)
    (folder / "cam1/0007").mkdir()
    lists = sysu.read_sysu(tmp_path)
    assert lists.remarks == [f"{folder / 'cam1/0007'} holds no image"]
    assert lists.pool == before.pool


def test_a_copy_without_val_split_says_so(tmp_path: Path) -> None:
    folder = sysu_tree(tmp_path)
    (folder / "exp/val_id.txt").unlink()
    lists = sysu.read_sysu(tmp_path)
    assert len(lists.infrared) == total((3, 6), "train")
    assert "val_id.txt is missing: training has no val split" in lists.remarks[0]


def break_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def break_camera(folder: Path) -> None:
    shutil.rmtree(folder / "cam4")


def break_train_ids(folder: Path) -> None:
    (folder / "exp/train_id.txt").unlink()


def break_test_ids(folder: Path) -> None:
    (folder / "exp/test_id.txt").write_text("5,six\n")


def empty_test_ids(folder: Path) -> None:
    (folder / "exp/test_id.txt").write_text("\n")


def negative_test_ids(folder: Path) -> None:
    (folder / "exp/test_id.txt").write_text("-5\n")


def binary_test_ids(folder: Path) -> None:
    (folder / "exp/test_id.txt").write_bytes(b"\xff\xfe\x00")


def overlap(folder: Path) -> None:
    (folder / "exp/val_id.txt").write_text("4,5\n")


def no_infrared(folder: Path) -> None:
    for camera in (3, 6):
        for identity in SYSU_SPLITS["train"] + SYSU_SPLITS["val"]:
            shutil.rmtree(folder / f"cam{camera}/{identity:04d}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            break_folder,
            r"SYSU-MM01 is not a folder: set FASTREID_DATASETS, or --root, to the folder that holds SYSU-MM01/",
        ),
        (break_camera, "cam4 is missing: the copy is incomplete"),
        (break_train_ids, r"train_id\.txt is missing: request it from its authors"),
        (break_test_ids, r"test_id\.txt: 'six' is not an identity"),
        (empty_test_ids, r"test_id\.txt names no identity"),
        (negative_test_ids, r"test_id\.txt: '-5' is not an identity"),
        (binary_test_ids, r"test_id\.txt cannot be read"),
        (overlap, r"identities \[5\] are both in training and in test_id\.txt"),
        (no_infrared, "holds no infrared training image"),
    ],
)
def test_bad_copies_of_sysu(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(sysu_tree(tmp_path))
    with pytest.raises(UserError, match=message):
        sysu.read_sysu(tmp_path)


def modalities_of(lists: Lists) -> tuple[set[int], ...]:
    """Of the items that should be visible, and of those that should be infrared."""
    sides = lists.visible + lists.gallery, lists.infrared + lists.query
    return tuple({item.modality for item in items} for items in sides)


def test_regdb_lists_each_split(tmp_path: Path) -> None:
    regdb_tree(tmp_path)
    for split in regdb.SPLITS:
        lists = regdb.read_regdb(tmp_path, split)
        assert [len(items) for items in lists[:4]] == [4, 4, 4, 4]
        trained = {Path(item.path).parts[-2] for item in lists.visible + lists.infrared}
        tested = {Path(item.path).parts[-2] for item in lists.pool}
        assert trained | tested == {"1", "2", "3", "4"}
        assert not trained & tested
        assert {Path(item.path).parts[-3] for item in lists.query} == {"Thermal"}
        assert [item.identity for item in lists.gallery] == [0, 0, 1, 1]
        assert modalities_of(lists) == ({VISIBLE}, {INFRARED})
    assert regdb.read_regdb(tmp_path, 1).visible != regdb.read_regdb(tmp_path, 2).visible


@pytest.mark.parametrize("split", [0, 11, "1"])
def test_regdb_has_ten_splits(tmp_path: Path, split: Any) -> None:
    regdb_tree(tmp_path)
    with pytest.raises(UserError, match="RegDB has splits 1 to 10"):
        regdb.read_regdb(tmp_path, split)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../secret.bmp 0", r"line 5: '\.\./secret\.bmp' points outside"),
        ("Visible/../../secret.bmp 0", "points outside"),
        ("/etc/passwd 0", "line 5: '/etc/passwd' points outside"),
        ("C:/secret.bmp 0", "points outside"),
        ("Visible/1/gone.bmp 0", r"line 5: 'Visible/1/gone\.bmp' is missing in "),
        ("Visible/1/v_00.bmp", "is not 'relative/path label'"),
        ("Visible/1/v_00.bmp one", "is not 'relative/path label'"),
    ],
)
def test_lines_that_lead_nowhere(tmp_path: Path, line: str, message: str) -> None:
    folder = regdb_tree(tmp_path)
    (tmp_path / "secret.bmp").write_bytes(b"x")
    with (folder / "idx/train_visible_1.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message):
        regdb.read_regdb(tmp_path, 1)


def test_a_line_that_is_there_twice_is_kept_and_remarked(tmp_path: Path) -> None:
    folder = regdb_tree(tmp_path)
    path = folder / "idx/test_thermal_1.txt"
    lines = path.read_text().splitlines()
    path.write_text("\r\n".join([lines[0], "", *lines]))
    lists = regdb.read_regdb(tmp_path, 1)
    assert len(lists.query) == len(lines) + 1
    assert lists.remarks == [f"{path}, line 3: {lines[0].split()[0]} is listed twice"]


def test_paths_may_hold_spaces(tmp_path: Path) -> None:
    folder = regdb_tree(tmp_path)
    os.rename(folder / "Visible/1", folder / "Visible/1 é")
    for path in (folder / "idx").glob("*visible*"):
        path.write_text(path.read_text().replace("Visible/1/", "Visible/1 é/"), encoding="utf-8")
    lists = regdb.read_regdb(tmp_path, 1)
    parts = {Path(item.path).parts[-2] for item in lists.visible + lists.gallery}
    assert "1 é" in parts


def test_training_and_test_may_not_share_an_image(tmp_path: Path) -> None:
    folder = regdb_tree(tmp_path)
    shutil.copy(folder / "idx/train_visible_1.txt", folder / "idx/test_visible_1.txt")
    with pytest.raises(UserError, match=r"split 1: .* is both in training and in test"):
        regdb.read_regdb(tmp_path, 1)


def test_an_empty_list(tmp_path: Path) -> None:
    folder = regdb_tree(tmp_path)
    (folder / "idx/train_thermal_1.txt").write_text("\n\n")
    with pytest.raises(UserError, match=r"train_thermal_1\.txt names no image"):
        regdb.read_regdb(tmp_path, 1)


def test_llcm_lists(tmp_path: Path) -> None:
    llcm_tree(tmp_path)
    lists = llcm.read_llcm(tmp_path)
    assert [(item.identity, item.camera) for item in lists.visible] == [
        (label, camera) for label in (0, 1, 2) for camera in (1, 6) for _ in range(2)
    ]
    assert modalities_of(lists) == ({VISIBLE}, {INFRARED})
    for items, modality in ((lists.query, "nir"), (lists.gallery, "vis")):
        expected = {key[1:]: n for key, n in LLCM_TEST_COUNTS.items() if key[0] == modality}
        keys = [(item.camera, item.identity) for item in items]
        assert {key: keys.count(key) for key in keys} == expected
        assert keys == sorted(keys)


def test_llcm_without_test_images(tmp_path: Path) -> None:
    folder = llcm_tree(tmp_path)
    shutil.rmtree(folder / "test_nir")
    with pytest.raises(UserError, match="test_nir is missing"):
        llcm.read_llcm(tmp_path)
    (folder / "test_nir").mkdir()
    with pytest.raises(UserError, match="holds no infrared test image"):
        llcm.read_llcm(tmp_path)


def test_llcm_camera_of_another_name(tmp_path: Path) -> None:
    folder = llcm_tree(tmp_path)
    first = next((folder / "vis").rglob("*.jpg"))
    first.rename(first.with_name("plain.jpg"))
    path = folder / "idx/train_vis.txt"
    path.write_text(path.read_text().replace(first.name, "plain.jpg"))
    assert llcm.UNKNOWN_CAMERA in {item.camera for item in llcm.read_llcm(tmp_path).visible}


def test_counts_of_a_full_regdb(tmp_path: Path) -> None:
    regdb_tree(tmp_path, n_identities=412, per_identity=10, splits=[7])
    data = RegDB(7)
    assert differences(data.counts(data.read(tmp_path)), data.expected.counts) == []


@pytest.fixture(scope="module")
def full_sysu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A skeleton of the whole of SYSU-MM01: the identities that the official draws know in both modalities."""
    root = tmp_path_factory.mktemp("full")
    permutations = read_official_draws(OFFICIAL / "rand_perm_cam.mat").permutations
    infrared = {identity for camera, identity in permutations if camera in sysu.INFRARED_CAMERAS}
    known = infrared & {identity for camera, identity in permutations if camera in sysu.VISIBLE_CAMERAS}
    train, test = (set(loadmat(str(OFFICIAL / f"{name}_id.mat"))["id"].ravel().tolist()) for name in ("train", "test"))
    splits = {"train": sorted(train), "val": sorted(known - train - test), "test": sorted(test)}
    counts = {key: rows.shape[1] for key, rows in permutations.items() if key[1] in known}
    folder = sysu_tree(root, counts, splits)
    shutil.copy(OFFICIAL / "rand_perm_cam.mat", folder / sysu.DRAWS_FILE)
    return root


@needs_official
def test_counts_of_the_real_sysu(full_sysu: Path) -> None:
    lists = sysu.read_sysu(full_sysu)
    found = SYSUMM01().counts(lists)
    assert differences(found, sysu.EXPECTED.counts) == []
    assert (found["visible training images"], found["infrared training images"]) == (22_258, 11_909)
    searches = count_searches(SYSUMM01().protocols(full_sysu, lists), lists.pool)
    assert searches == sysu.EXPECTED.searches


@needs_official
def test_the_real_sysu_without_val_split_is_noticed(full_sysu: Path) -> None:
    path = full_sysu / "SYSU-MM01/exp/val_id.txt"
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    try:
        lists = sysu.read_sysu(full_sysu)
    finally:
        hidden.rename(path)
    warnings = differences(SYSUMM01().counts(lists), sysu.EXPECTED.counts, sysu.EXPECTED.causes)
    assert "infrared training images: 9,929 instead of 11,909: the val split is missing" in warnings[1]


def test_a_known_number_names_its_cause(tmp_path: Path) -> None:
    sysu_tree(tmp_path)
    found = {**SYSUMM01().counts(sysu.read_sysu(tmp_path)), "infrared training images": 11_333}
    lines = differences(found, sysu.EXPECTED.counts, sysu.EXPECTED.causes)
    assert "infrared training images: 11,333 instead of 11,909: the val split is missing (exp/val_id.txt)" in lines[1]
    assert "the copy is incomplete" in lines[0]


def test_counts_name_every_list(tmp_path: Path) -> None:
    llcm_tree(tmp_path)
    assert count(llcm.read_llcm(tmp_path)) == {
        "visible training images": 12,
        "infrared training images": 12,
        "training identities": 3,
        "infrared test images": 9,
        "visible test images": 13,
        "test identities": 3,
    }
