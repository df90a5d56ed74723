"""tools/check_dataset.py: what differs from the published data sets is named, and the exit code says that it does."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from mgot.data import check
from mgot.data.check import check_dataset
from mgot.data.counts import Expected, count_searches
from mgot.data.dataset import TwoModalityDataset
from mgot.data.sets import sysu
from mgot.data.sets.llcm import LLCM
from mgot.data.sets.regdb import RegDB
from mgot.data.sets.sysu import SYSUMM01
from tests.scripts import script
from tests.trees import SYSU_COUNTS, llcm_tree, random_draws, regdb_tree, save_draws, sysu_tree

PUBLISHED = ("SYSUMM01", "RegDB", "LLCM")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return script("tools/check_dataset.py")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of small trees, declared to be what was published."""
    save_draws(sysu_tree(tmp_path) / sysu.DRAWS_FILE, random_draws(SYSU_COUNTS))
    regdb_tree(tmp_path)
    llcm_tree(tmp_path)
    places: list[tuple[TwoModalityDataset, Any, str]] = [
        (SYSUMM01(), sysu, "EXPECTED"),
        (RegDB(), RegDB, "expected"),
        (LLCM(), LLCM, "expected"),
    ]
    for data, owner, attribute in places:
        lists = data.read(tmp_path)
        searches = count_searches(data.protocols(tmp_path, lists), lists.pool) if data.expected.searches else {}
        of_all_splits = dict.fromkeys(data.expected.of_all_splits, 8)
        monkeypatch.setattr(owner, attribute, Expected(data.counts(lists), {}, searches, of_all_splits))
    return tmp_path


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_complete_copy_passes(tool: ModuleType, published: Path, name: str, capsys: Any) -> None:
    assert tool.main([name, "--root", str(published), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert f"{name}: as published" in out
    assert "DIFFERS" not in out


@pytest.mark.parametrize("name", PUBLISHED)
def test_another_set_of_the_layout_differs(tool: ModuleType, tmp_path: Path, name: str, capsys: Any) -> None:
    for tree in (sysu_tree, regdb_tree, llcm_tree):
        tree(tmp_path)
    assert tool.main([name, "--root", str(tmp_path)]) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_unreadable_images_are_listed(tool: ModuleType, published: Path, capsys: Any) -> None:
    """A zero-byte and a truncated image; both written anew, since the tree's images are links to one file."""
    empty, cut = (published / "SYSU-MM01" / name for name in ("cam1/0001/0002.jpg", "cam6/0005/0001.jpg"))
    for path in (empty, cut):
        path.unlink()
    empty.touch()
    Image.new("RGB", (60, 60), (9, 120, 33)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-40])
    assert tool.main(["SYSUMM01", "--root", str(published)]) == 1
    out = capsys.readouterr().out
    assert f"- {empty} is empty" in out
    assert f"- {cut} cannot be decoded" in out
    assert "SYSUMM01: 2 differences" in out


def test_missing_files_and_where_they_come_from(published: Path) -> None:
    exp = published / "SYSU-MM01/exp"
    (exp / "rand_perm_cam.mat").unlink()
    (exp / "val_id.txt").unlink()
    lines = check_dataset("SYSUMM01", published).differences
    assert f"{exp / 'rand_perm_cam.mat'} is missing: {sysu.DRAWS_SOURCE}" in lines
    assert any("val_id.txt is missing" in line for line in lines)
    assert any(line.startswith("visible training images: ") for line in lines)


def test_draws_of_another_copy(published: Path) -> None:
    (published / "SYSU-MM01/cam4/0006/0001.jpg").unlink()
    lines = check_dataset("SYSUMM01", published).differences
    assert any("draws from" in line and "camera 4, identity 6" in line for line in lines)


def test_a_list_that_cannot_be_read_does_not_hide_the_others(published: Path) -> None:
    folder = published / "RegDB"
    (folder / "idx/test_thermal_4.txt").unlink()
    (folder / "idx/train_visible_6.txt").write_text("../x.bmp 0\n")
    report = check_dataset("RegDB", published)
    assert len(report.differences) == 2
    assert "test_thermal_4.txt is missing" in report.differences[0]
    assert "train_visible_6.txt, line 1: '../x.bmp' points outside" in report.differences[1]
    assert report.images == 16


@pytest.mark.parametrize(("name", "folder"), [("SYSUMM01", "SYSU-MM01/cam2"), ("LLCM", "LLCM/test_vis")])
def test_a_missing_folder_is_a_difference(published: Path, name: str, folder: str) -> None:
    shutil.rmtree(published / folder)
    assert any(f"{folder} is missing" in line for line in check_dataset(name, published).differences)


def test_an_empty_identity_folder_is_a_difference(published: Path) -> None:
    (published / "LLCM/test_vis/cam4/0002").mkdir(parents=True)
    (line,) = check_dataset("LLCM", published).differences
    assert line.endswith("test_vis/cam4/0002 holds no image")


def test_copies_of_images_are_noted(published: Path) -> None:
    (note,) = check_dataset("LLCM", published).notes
    assert "images are copies of another, the first: " in note


def test_several_processes_find_the_same(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (published / "RegDB/Thermal/2/t_01.bmp").unlink()
    (published / "RegDB/Thermal/2/t_01.bmp").write_bytes(b"BM")
    alone = check_dataset("RegDB", published, workers=1)
    monkeypatch.setattr(check, "_FEW", 1)
    assert check_dataset("RegDB", published, workers=2) == alone
    assert len(alone.differences) == 1


def test_no_such_root(tool: ModuleType, tmp_path: Path, capsys: Any) -> None:
    assert tool.main(["LLCM", "--root", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert "is not a folder: set FASTREID_DATASETS, or --root" in error
    assert error.count("\n") == 1


def test_no_such_data_set(tool: ModuleType, capsys: Any) -> None:
    assert tool.main(["MARKET"]) == 2
    assert "there is no data set 'MARKET': choose from Folder, LLCM, RegDB, SYSUMM01" in capsys.readouterr().err


def test_a_folder_is_named_where_it_is_an_option(tool: ModuleType, published: Path, capsys: Any) -> None:
    assert tool.main(["LLCM", "--root", str(published), "--folder", "LLCM2"]) == 2
    assert "--folder: the folder of LLCM is LLCM: name the folder above it with --root" in capsys.readouterr().err
