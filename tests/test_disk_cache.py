"""The image cache on disk: what it gives, what makes it anew, and who may write it at once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgot.data import disk_cache
from mgot.data.disk_cache import open_or_fill
from mgot.data.image_set import CacheOptions, ImageSet
from mgot.data.items import VISIBLE, Item
from mgot.errors import UserError

SIZE = (8, 4)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    rng = np.random.default_rng(0)
    made = [Item(str(tmp_path / f"{n}.png"), n, 1, VISIBLE) for n in range(40)]
    for item in made:
        Image.fromarray(rng.integers(0, 256, (12, 6, 3), dtype=np.uint8)).save(item.path)
    return made


def cached(items: list[Item], folder: Path, **options: float) -> ImageSet:
    return ImageSet(items, SIZE, cache=CacheOptions("disk", str(folder), **options))  # type: ignore[arg-type]


def refuse(self: ImageSet, index: int) -> torch.Tensor:
    raise AssertionError("decoded again")


def test_a_second_start_decodes_nothing_and_gives_the_same(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ImageSet(items, SIZE).batch(np.arange(40))
    assert torch.equal(cached(items, tmp_path / "cache").batch(np.arange(40)), plain)
    assert torch.equal(ImageSet(items, SIZE, cache=CacheOptions("ram")).batch(np.arange(40)), plain)
    monkeypatch.setattr(ImageSet, "_read", refuse)
    again = cached(items, tmp_path / "cache")
    assert again.cached and torch.equal(again.batch(np.array([7, 3])), plain[[7, 3]])
    with pytest.raises(AssertionError, match="decoded again"):
        cached(items[:-1], tmp_path / "cache")


def test_a_changed_image_is_decoded_anew(items: list[Item], tmp_path: Path) -> None:
    cached(items, tmp_path / "cache")
    Image.new("RGB", (12, 6), (255, 0, 0)).save(items[5].path)
    os.utime(items[5].path, ns=(1, 1))
    assert cached(items, tmp_path / "cache").image(5)[0].unique().tolist() == [255]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "header"])
def test_a_damaged_cache_is_filled_again(
    damage: str, items: list[Item], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_cache.logger, "propagate", True)
    before = cached(items, tmp_path / "cache").batch(np.arange(40)).clone()
    (path,) = (tmp_path / "cache").glob("*.images")
    content = bytearray(path.read_bytes())
    content[0 if damage == "header" else 200] ^= 1
    path.write_bytes(content[: {"cut": -5, "empty": 0}.get(damage, len(content))])
    assert torch.equal(cached(items, tmp_path / "cache").batch(np.arange(40)), before)
    assert "is damaged: filling it again" in caplog.text


def test_a_failure_while_filling_leaves_nothing_behind(items: list[Item], tmp_path: Path) -> None:
    Path(items[30].path).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"30\.png cannot be decoded"):
        cached(items, tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_what_was_not_used_for_longest_makes_room(items: list[Item], tmp_path: Path) -> None:
    sets = [items[:10], items[10:20], items[20:30]]
    room = 2.5 * 10 * 3 * 8 * 4 / 1e9
    names: list[str] = []
    for age, part in enumerate(sets):
        cached(part, tmp_path, limit_gb=room)
        (new,) = {path.name for path in tmp_path.glob("*.images")} - set(names)
        names.append(new)
        os.utime(tmp_path / new, (age, age))
    assert {path.name for path in tmp_path.glob("*.images")} == set(names[1:])
    with pytest.raises(UserError, match=r"over DATALOADER\.CACHE_LIMIT_GB \(1e-06\): raise it"):
        cached(items, tmp_path, limit_gb=1e-6)


def test_a_disk_without_room_is_named(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(UserError, match=r"has 0\.00 GB left: set DATALOADER\.CACHE_DIR"):
        cached(items, tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .*DATALOADER\.CACHE_DIR"):
        cached(items, tmp_path / "file")


def fill(folder: Path, value: int, filled: multiprocessing.Queue[int]) -> None:
    def batches() -> Iterator[np.ndarray]:
        filled.put(value)
        for _ in range(50):
            yield np.full((20, 3, 8, 4), value, dtype=np.uint8)

    block = open_or_fill(folder, [], (1000, 3, 8, 4), batches(), limit_gb=1)
    assert len(np.unique(block)) == 1


def test_of_several_writers_one_fills_and_all_read_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    filled = context.Queue()
    processes = [context.Process(target=fill, args=(tmp_path, value, filled)) for value in range(1, 5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert filled.get() and filled.empty()
    assert len(list(tmp_path.glob("*.images"))) == 1 and not list(tmp_path.glob("*.tmp"))
