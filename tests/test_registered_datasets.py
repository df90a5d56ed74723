"""fast-reid's view of the data sets: registered, built with a root and options, and scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgot.data.dataset import DATASETS
from mgot.data.items import cameras, identities
from mgot.data.registered import DATASET_REGISTRY, ImageDataset
from mgot.engine.setup import default_config
from mgot.errors import UserError
from mgot.evaluation import score_protocols
from tests.trees import folder_tree, llcm_tree, regdb_tree, sysu_tree

SETS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], list[str]]] = {
    "SYSUMM01": (
        sysu_tree,
        {"trials": 2},
        ["sysu-all-single", "sysu-all-multi", "sysu-indoor-single", "sysu-indoor-multi"],
    ),
    "RegDB": (regdb_tree, {"split": 3}, ["regdb-visible-to-thermal", "regdb-thermal-to-visible"]),
    "LLCM": (llcm_tree, {"trials": 2}, ["llcm-visible-to-infrared", "llcm-infrared-to-visible"]),
    "Folder": (folder_tree, {}, ["folder-visible-to-infrared", "folder-infrared-to-visible"]),
}


def built(name: str, root: Path, **options: Any) -> Any:
    SETS[name][0](root)
    return DATASET_REGISTRY.get(name)(root=str(root), **{**SETS[name][1], **options})


@pytest.mark.parametrize("name", SETS)
def test_registered_and_scored_from_one_pool(name: str, tmp_path: Path) -> None:
    data = built(name, tmp_path, combineall=False)
    assert isinstance(data, ImageDataset)
    assert data.train == data.visible + data.infrared
    pool = [*data.query, *data.gallery]
    features = np.random.default_rng(0).standard_normal((len(pool), 8))
    rows = score_protocols(data.protocols(), identities(pool), cameras(pool), features=features)
    assert [row["protocol"] for row in rows] == SETS[name][2]


@pytest.mark.parametrize("name", SETS)
def test_the_hosts_tables_can_be_shown(name: str, tmp_path: Path) -> None:
    data = built(name, tmp_path)
    data.show_train()
    data.show_test()
    assert data.get_num_pids(data.train) == len({item.identity for item in data.train})


@pytest.mark.parametrize("name", ["SYSUMM01", "RegDB", "LLCM"])
def test_counts_that_differ_are_warned_of(name: str, tmp_path: Path) -> None:
    data = built(name, tmp_path)
    assert any(line.startswith(f"{name}: visible training images: ") for line in data.count_warnings())


@pytest.mark.parametrize("name", SETS)
def test_test_identities_are_never_trained_on(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"DATASETS\.COMBINEALL would train on the test identities"):
        built(name, tmp_path, combineall=True)


@pytest.mark.parametrize("name", ["RegDB", "LLCM", "Folder"])
def test_one_direction(name: str, tmp_path: Path) -> None:
    data = built(name, tmp_path, directions=["infrared-to-visible"])
    assert [protocol.name for protocol in data.protocols()] == SETS[name][2][1:]


def test_modes_and_shots_of_sysu(tmp_path: Path) -> None:
    data = built("SYSUMM01", tmp_path, modes=["indoor"], shots=[1], draws="seeded", trials=4)
    (protocol,) = data.protocols()
    assert (protocol.name, len(protocol.trials)) == ("sysu-indoor-single", 4)


@pytest.mark.parametrize("name", SETS)
def test_options_come_from_the_config(name: str, tmp_path: Path) -> None:
    SETS[name][0](tmp_path)
    options = DATASETS[name].options(default_config().MGOT)
    data = DATASET_REGISTRY.get(name)(root=str(tmp_path), **options)
    assert [protocol.name for protocol in data.protocols()] == SETS[name][2]


def test_every_data_set_is_in_both_registries() -> None:
    for name, cls in DATASETS.items():
        theirs = DATASET_REGISTRY.get(name)
        assert (theirs.__name__, theirs.definition, theirs.__module__) == (name, cls, cls.__module__)


@pytest.mark.parametrize("name", SETS)
def test_keys_of_the_config_reach_the_protocols(name: str, tmp_path: Path) -> None:
    SETS[name][0](tmp_path)
    keys = default_config().MGOT
    keys.TEST.TRIALS, keys.TEST.DIRECTIONS, keys.TEST.REGDB_TRIAL = 3, ["infrared-to-visible"], 4
    keys.TEST.SYSU_MODES, keys.TEST.SYSU_SHOTS = ["indoor"], [10]
    (protocol,) = DATASET_REGISTRY.get(name)(root=str(tmp_path), **DATASETS[name].options(keys)).protocols()
    assert protocol.name == ("sysu-indoor-multi" if name == "SYSUMM01" else SETS[name][2][1])
    assert len(protocol.trials) == (3 if name in ("SYSUMM01", "LLCM") else 1)
    assert protocol.draws == {"RegDB": "split 4", "Folder": "whole gallery"}.get(name, "seeded")
