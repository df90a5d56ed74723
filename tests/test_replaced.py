"""Strangers among the visible training identities: counts stay, infrared stays, and nobody is taken for another."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mgot.data.items import INFRARED, VISIBLE, Item
from mgot.data.loaders import build_dataset, build_train_loader
from mgot.data.registered import visible_people
from mgot.data.replaced import replace_identities
from mgot.data.sets.llcm import read_llcm
from mgot.data.sets.sysu import read_sysu
from mgot.data.synthetic.layout import write_sysu
from mgot.data.synthetic.other_layouts import write_llcm
from mgot.data.synthetic.presets import preset, strangers
from mgot.engine.setup import default_config, load_config
from mgot.errors import UserError
from tests.scripts import script

DEMO = "projects/MGOT/configs/demo.yml"
ALPHAS = (0.0, 0.2, 0.5, 0.75, 1.0)
FIRST = 1000


def people(sizes: list[int], name: str) -> list[Item]:
    return [Item(f"{name}/{i}/{n}.jpg", i, 1 + n % 2, VISIBLE) for i, size in enumerate(sizes) for n in range(size)]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    others=st.lists(st.integers(1, 9), min_size=8, max_size=10),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
def test_counts_are_exact_and_nobody_is_mixed(sizes: list[int], others: list[int], share: float, seed: int) -> None:
    visible, pool = people(sizes, "own"), people(others, "other")
    items = replace_identities(visible, pool, share, seed, FIRST)
    assert items == replace_identities(visible, pool, share, seed, FIRST)
    came = {item.identity for item in items if item.identity >= FIRST}
    assert came == set(range(FIRST, FIRST + round(share * len(sizes))))
    assert len(items) == len(visible)
    for old, new in zip(visible, items, strict=True):
        assert new == old or (new.identity in came and new.path.startswith("other/"))
    stranger_of = {
        (old.identity, new.identity, Path(new.path).parts[1]) for old, new in zip(visible, items, strict=True)
    }
    assert len({own for own, _, _ in stranger_of}) == len({new for _, new, _ in stranger_of}) == len(stranger_of)


def test_images_repeat_only_where_nobody_left_has_enough() -> None:
    items = replace_identities(people([4, 4], "own"), people([4, 3, 5], "other"), 1.0, 0, FIRST)
    assert max(Counter(item.path for item in items).values()) == 1
    (only,) = (replace_identities(people([7], "own"), people([3], "other"), 1.0, 0, FIRST),)
    assert sorted(Counter(item.path for item in only).values()) == [2, 2, 3]


def test_larger_shares_replace_the_same_people_and_more() -> None:
    visible, pool = people([3] * 10, "own"), people([5] * 12, "other")
    drawn = [set(replace_identities(visible, pool, alpha, 3, FIRST)) - set(visible) for alpha in ALPHAS]
    for smaller, larger in pairwise(drawn):
        assert smaller < larger
    assert replace_identities(visible, pool, 0.5, 4, FIRST) != replace_identities(visible, pool, 0.5, 3, FIRST)


def test_too_few_strangers() -> None:
    with pytest.raises(UserError, match=r"takes 3 strangers, and MGOT\.DATA\.STRANGERS has 2"):
        replace_identities(people([1] * 3, "own"), people([1] * 2, "other"), 1.0, 0, FIRST)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preset unpaired in small: six training people and six strangers."""
    folder = tmp_path_factory.mktemp("unpaired")
    small = preset(
        "unpaired", train_identities=6, test_identities=2, visible_per_camera=3, infrared_per_camera=2, width=16
    )
    write_sysu(folder, small, processes=1)
    write_llcm(folder, strangers(small), processes=1)
    return folder


@pytest.fixture
def options(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return ["MODEL.DEVICE", "cpu", "DATALOADER.CACHE", "off", "MGOT.DATA.STRANGERS", "LLCM"]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_training_items_of_the_preset(options: list[str], alpha: float) -> None:
    cfg = load_config(DEMO, [*options, "MGOT.DATA.REPLACED", str(alpha)])
    data = build_dataset(cfg, "SYSUMM01")
    loader = build_train_loader(cfg)
    items = loader.dataset.items
    visible, infrared = items[: loader.n_visible], items[loader.n_visible :]
    assert infrared == data.infrared
    assert {item.modality for item in infrared} == {INFRARED}
    assert Counter(Counter(i.identity for i in visible).values()) == Counter(
        Counter(i.identity for i in data.visible).values()
    )
    came = [item for item in visible if "LLCM" in item.path]
    assert len(came) == round(alpha * 6) * 12
    assert len({item.path for item in came}) == len(came)
    known = {item.identity for item in [*data.infrared, *data.query, *data.gallery]}
    assert not known & {item.identity for item in came}
    assert {item.identity for item in visible} - {item.identity for item in came} <= known


def test_strangers_are_other_people_with_images_enough() -> None:
    settings = preset("unpaired")
    others = strangers(settings)
    assert others.train_identities == settings.train_identities
    assert others.seed not in range(settings.seed, settings.seed + 10_000)
    assert 9 * others.visible_per_camera >= 4 * settings.visible_per_camera


def test_the_command_writes_both_trees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = ["--train-ids", "2", "--test-ids", "1", "--visible", "1", "--infrared", "1", "--processes", "1"]
    assert script("tools/make_demo_data.py").main(["--root", str(tmp_path), "--preset", "unpaired", *counts]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert len(read_llcm(tmp_path).visible) == 2 * 9
    assert len(read_sysu(tmp_path).visible) == 2 * 4


def test_the_hosts_data_sets_serve(tmp_path: Path) -> None:
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / "Market-1501-v15.09.15" / part).mkdir(parents=True)
    for person in (7, 2):
        for number in range(2):
            path = tmp_path / f"Market-1501-v15.09.15/bounding_box_train/{person:04d}_c{number + 1}s1_0001.jpg"
            Image.new("RGB", (1, 1)).save(path)
    items = visible_people("Market1501", str(tmp_path), default_config().MGOT)
    assert [(Path(item.path).name[:7], item.identity, item.modality) for item in items] == [
        ("0002_c1", 0, VISIBLE), ("0002_c2", 0, VISIBLE), ("0007_c1", 1, VISIBLE), ("0007_c2", 1, VISIBLE)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("Market1500", "no data set named 'Market1500' is registered"),
        ("SYSU_mm", "does not mark its modalities"),
        ("MSMT17", "MSMT17 cannot be read under"),
        ("SYSUMM01", "is the training set itself"),
        ("RegDB", "RegDB is not a folder"),
    ],
)
def test_strangers_that_cannot_be_had(name: str, culprit: str, options: list[str]) -> None:
    cfg = load_config(DEMO, [*options, "MGOT.DATA.REPLACED", "0.5", "MGOT.DATA.STRANGERS", name])
    with pytest.raises(UserError, match=culprit):
        build_train_loader(cfg)


@pytest.mark.parametrize(
    ("key", "pairs"),
    [
        (r"MGOT\.DATA\.REPLACED", ["MGOT.DATA.REPLACED", "1.5", "MGOT.DATA.STRANGERS", "LLCM"]),
        (r"MGOT\.DATA\.STRANGERS", ["MGOT.DATA.REPLACED", "0.5"]),
    ],
)
def test_keys_out_of_range(key: str, pairs: list[str]) -> None:
    with pytest.raises(UserError, match=key):
        load_config(DEMO, pairs)
