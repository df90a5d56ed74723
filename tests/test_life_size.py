"""A tree of SYSU-MM01's exact counts: every published number comes out of the reader."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgot.data.counts import count_searches, differences
from mgot.data.sets import sysu
from mgot.data.synthetic import layout
from mgot.data.synthetic.life_size import LifeSize, published_counts, write_life_size
from mgot.data.synthetic.settings import Settings
from mgot.errors import UserError
from tests.scripts import script


def dot(settings: Settings, identity: int, camera: int, number: int) -> np.ndarray:
    """A picture of one pixel: the renderer has tests of its own."""
    return np.array([[[identity % 256, camera, number]]], dtype=np.uint8)


def test_counts_are_those_that_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "picture", dot)
    folder = write_life_size(tmp_path, LifeSize(), processes=1)
    lists = sysu.read_sysu(tmp_path)
    data = sysu.SYSUMM01()
    assert differences(data.counts(lists), sysu.EXPECTED.counts) == [] and lists.remarks == []
    assert count_searches(data.protocols(tmp_path, lists), lists.pool) == sysu.EXPECTED.searches
    first, second = folder / "cam1/0001/0001.jpg", folder / "cam1/0001/0002.jpg"
    assert os.path.samefile(first, second) and Image.open(second).size == (1, 1)
    (folder / "exp/val_id.txt").unlink()
    without = data.counts(sysu.read_sysu(tmp_path))
    assert (without["visible training images"], without["infrared training images"]) == (20_284, 9_929)
    again = folder.stat().st_mtime_ns
    assert write_life_size(tmp_path, LifeSize(), processes=1) == folder and folder.stat().st_mtime_ns == again


def test_no_camera_has_fewer_images_than_a_multi_shot_gallery_asks_for() -> None:
    assert min(published_counts().values()) >= 4
    test = {place: n for place, n in published_counts().items() if place[1] > 395}
    assert min(test.values()) >= 10


def test_a_tree_of_other_numbers_is_another_one() -> None:
    plain = Settings(train_identities=395, test_identities=96, validation_identities=99)
    assert not LifeSize().made(plain.stamp()) and not plain.made(LifeSize().stamp())
    assert LifeSize().made(LifeSize().stamp()) and not LifeSize(seed=1).made(LifeSize().stamp())


def test_without_hard_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(layout, "picture", dot)
    monkeypatch.setattr("mgot.data.synthetic.life_size.published_counts", lambda: {(1, 1): 3})
    folder = write_life_size(tmp_path, LifeSize(), processes=1)
    files = [(folder / f"cam1/0001/000{n}.jpg") for n in (1, 3)]
    assert files[0].read_bytes() == files[1].read_bytes() and not os.path.samefile(*files)


@pytest.mark.parametrize("options", [["--train-ids", "5"], ["--preset", "cold"]])
def test_like_takes_no_other_numbers(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = script("tools/make_demo_data.py")
    assert tool.main(["--root", str(tmp_path), "--like", "sysu", *options]) == 2
    assert f"{options[0]}" in capsys.readouterr().err and not os.listdir(tmp_path)


def test_settings_of_the_tree_are_checked() -> None:
    with pytest.raises(UserError, match="seed"):
        LifeSize(seed=-1)
