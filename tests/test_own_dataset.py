"""A data set of one's own is one file: the example of docs/extending.md is read, checked, trained and scored."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mgot.data.dataset import DATASETS, TwoModalityDataset, register_dataset
from mgot.data.registered import DATASET_REGISTRY, FastreidDataset, registered
from mgot.data.sets.regdb import RegDB
from mgot.engine.run import evaluate, train
from mgot.engine.setup import default_config, load_config
from mgot.engine.watch.about import describe_training_set
from mgot.errors import UserError
from tests.examples import code
from tests.scripts import script
from tests.trees import coloured_images, regdb_tree

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "projects/MGOT/mgot"
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
NAMES = ("DATASETS.NAMES", "('Pairs',)", "DATASETS.TESTS", "('Pairs',)")
SEARCHES = ["pairs-visible-to-infrared", "pairs-infrared-to-visible"]
Options = Callable[..., list[str]]


def write_pairs(root: Path) -> None:
    """Sixteen people, eight images of each in both modalities."""
    for modality in ("visible", "infrared"):
        place = root / "Pairs" / modality
        place.mkdir(parents=True)
        for person in range(16):
            for n, image in enumerate(coloured_images(person, modality, 8)):
                image.save(place / f"{person}_{n}.png")


@pytest.fixture(name="forget", autouse=True)
def fixture_forget() -> Iterator[None]:
    """What a test registers is known only to that test."""
    ours, theirs = dict(DATASETS), dict(DATASET_REGISTRY._obj_map)
    yield
    for registry, before in ((DATASETS, ours), (DATASET_REGISTRY._obj_map, theirs)):
        registry.clear()
        registry.update(before)


@pytest.fixture(name="pairs")
def fixture_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[TwoModalityDataset]:
    """The example, imported from a file elsewhere, and images for it."""
    (tmp_path / "pairs.py").write_text(code("A data set"), encoding="utf-8")
    write_pairs(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    script(tmp_path / "pairs.py")
    return DATASETS["Pairs"]


def test_it_is_read(pairs: type[TwoModalityDataset], tmp_path: Path) -> None:
    lists = pairs().read(tmp_path)
    assert [len(items) for items in lists[:4]] == [64] * 4
    assert {item.identity for item in lists.visible + lists.infrared} == set(range(0, 16, 2))
    assert [protocol.name for protocol in pairs().protocols(tmp_path, lists)] == SEARCHES
    theirs = DATASET_REGISTRY.get("Pairs")(root=str(tmp_path))
    assert isinstance(theirs, FastreidDataset)
    assert (theirs.train, theirs.dataset_name) == (lists.visible + lists.infrared, "pairs")
    with pytest.raises(UserError, match=r"Pairs is not a folder: .*ask who took the pictures"):
        pairs().read(tmp_path / "nowhere")


def test_it_is_checked(pairs: type[TwoModalityDataset], tmp_path: Path, capsys: Any) -> None:
    check = runpy.run_path(str(REPO / "tools/check_dataset.py"))["main"]
    assert check(["Pairs", "--root", str(tmp_path), "--workers", "1"]) == 0
    assert "256 images opened\nPairs: in order\n" in capsys.readouterr().out
    (tmp_path / "Pairs/visible/3_1.png").write_bytes(b"")
    assert check(["Pairs", "--root", str(tmp_path), "--workers", "1"]) == 1
    assert "visible/3_1.png is empty" in capsys.readouterr().out


def test_it_is_trained_and_scored(pairs: type[TwoModalityDataset], tiny_options: Options, tmp_path: Path) -> None:
    os.environ["FASTREID_DATASETS"] = str(
        tmp_path
    )  # after tiny_options, which set another; put back by its monkeypatch
    options = tiny_options(*NAMES)
    cfg = load_config(DEMO, options)
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True)
    train(cfg, resume=False)
    rows = json.loads((folder / "results.json").read_text())["rows"]
    final = [row for row in rows if row["stage"] == "final"]
    assert [row["protocol"] for row in final] == SEARCHES
    assert torch.load(folder / "model_final.pth", weights_only=True)["about"] == {"dataset": "Pairs"}
    logged = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert any("truth/matching_accuracy" in line for line in logged)
    evaluate(load_config(DEMO, [*options, "MODEL.WEIGHTS", str(folder / "model_final.pth")]))
    again = json.loads((folder / "evaluation/results.json").read_text())["rows"]
    assert [row["mAP"] for row in again] == [row["mAP"] for row in final]


# A process takes seconds to import what all commands need, so one runs them all.
ONE_BY_ONE = """
import json, runpy, sys
for sys.argv in json.loads(sys.argv[1]):
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print("ended:", end.code)
"""


@pytest.mark.slow
def test_a_file_in_the_folder_of_data_sets_is_known_to_every_tool(tmp_path: Path) -> None:
    """In a copy of the project, with one file more and no line changed; by its commands, one after the other."""
    for part in ("configs", "tools", "projects"):
        shutil.copytree(REPO / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "projects/MGOT/mgot/data/sets/pairs.py").write_text(code("A data set"), encoding="utf-8")
    write_pairs(tmp_path / "data")
    keys = [*NAMES, "MODEL.BACKBONE.PRETRAIN", "False", "INPUT.SIZE_TRAIN", "[64,32]", "INPUT.SIZE_TEST", "[64,32]",
            "SOLVER.MAX_EPOCH", "2", "MGOT.CROSS_START_EPOCH", "1", "MGOT.ITERS_PER_EPOCH", "2", "SOLVER.IMS_PER_BATCH",
            "32", "MGOT.CLUSTER.K1", "8", "MGOT.CLUSTER.K2", "3", "SEED", "0", "OUTPUT_DIR", "run"]  # fmt: skip
    train_net = ["tools/train_net.py", "--config-file", "projects/MGOT/configs/demo.yml"]
    weights = ["MODEL.WEIGHTS", "run/model_final.pth"]
    commands = [
        ["tools/check_dataset.py", "Pairs"],
        [*train_net, *keys],
        [*train_net, "--eval-only", *keys, *weights],
        ["tools/report.py", "run"],
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "projects/MGOT"), "FASTREID_DATASETS": "data"}
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, json.dumps(commands)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    told = ("Pairs: in order", "in run/results.json", "in run/evaluation/results.json", "report: run/report.html")
    assert all(each in said for each in told) and said.count("ended: 0") == len(commands), said
    rows = json.loads((tmp_path / "run/evaluation/results.json").read_text())["rows"]
    assert [row["protocol"] for row in rows] == SEARCHES


def test_names_are_taken_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a data set named 'RegDB' is registered already: choose another name"):
        register_dataset("RegDB")(RegDB)
    with pytest.raises(UserError, match="fast-reid has a data set named 'Market1501' already: choose another name"):
        register_dataset("Market1501")(RegDB)
    assert "Market1501" not in DATASETS and RegDB.name == "RegDB"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Nobody", "no data set named 'Nobody' is registered: choose from Folder, LLCM, RegDB, SYSUMM01"),
        ("Market1501", "'Market1501' is one of fast-reid's, without modalities: choose from Folder, LLCM"),
    ],
)
def test_names_that_are_none_of_ours(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        registered(name)


@pytest.fixture(name="halves")
def fixture_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[TwoModalityDataset]:
    """A data set with splits and a key of its own, over RegDB's reader."""

    @register_dataset("Halves")
    @dataclass(frozen=True)
    class Halves(RegDB):
        split_key = "MGOT.DATA.HALF"
        own_keys = {"HALF": 2, "OVERLAP": 0.0}  # noqa: RUF012

        @classmethod
        def options(cls, keys: Any) -> dict[str, Any]:
            return {"split": keys.DATA.HALF}

    regdb_tree(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    return Halves


def test_own_keys_join_the_config(halves: type[TwoModalityDataset]) -> None:
    assert default_config().MGOT.DATA.HALF == 2
    assert default_config().MGOT.DATA.OVERLAP == 1.0  # a key that is there already is shared
    cfg = load_config(DEMO, ["DATASETS.NAMES", "('Halves',)", "MGOT.DATA.HALF", "7"])
    assert describe_training_set(cfg) == {"dataset": "Halves", "split": 7}
    with pytest.raises(UserError, match=r"unknown config key 'MGOT\.DATA\.HALFF'; did you mean 'MGOT\.DATA\.HALF'"):
        load_config(DEMO, ["MGOT.DATA.HALFF", "7"])


class Scored(Exception):
    """The scoring has begun."""


def test_a_checkpoint_of_another_split_is_refused_by_the_own_key(
    halves: type[TwoModalityDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pth"
    layer = torch.nn.Linear(1, 1)
    torch.save({"model": layer.state_dict(), "about": {"dataset": "Halves", "split": 7}}, path)
    monkeypatch.setattr("mgot.engine.trainer.MGOTTrainer.build_model", lambda cfg: layer)

    def scored(*_: Any) -> Any:
        raise Scored

    monkeypatch.setattr("mgot.engine.run.score_model", scored)

    def begin(*pairs: str) -> None:
        evaluate(load_config(DEMO, ["MODEL.WEIGHTS", str(path), "OUTPUT_DIR", str(tmp_path), *pairs]))

    with pytest.raises(UserError, match=r"trained on split 7 of Halves: set MGOT\.DATA\.HALF 7, or MGOT\.TEST"):
        begin("DATASETS.TESTS", "('Halves',)")
    for pairs in (("MGOT.DATA.HALF", "7"), ("MGOT.TEST.OTHER_TRIAL", "True")):
        with pytest.raises(Scored):
            begin("DATASETS.TESTS", "('Halves',)", *pairs)
    with pytest.raises(Scored):  # the numbers of one data set's splits say nothing of another's
        begin("DATASETS.TESTS", "('RegDB',)")


def test_no_other_file_names_a_data_set() -> None:
    """Where a name stands alone in the code, something is done for that data set; trees of rendered people aside."""
    named = {}
    for path in PACKAGE.rglob("*.py"):
        if path.parent not in (PACKAGE / "data/sets", PACKAGE / "data/synthetic"):
            constants = (
                node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
            )
            found = {node.value for node in constants} & set(DATASETS)
            named.update({path.name: found} if found else {})
    assert named == {}
