"""MGOT.DATA.VALIDATION: the validation people are scored, the test people are in no list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mgot.data.items import cameras, identities
from mgot.data.loaders import build_dataset, build_train_loader
from mgot.data.sets.sysu import SYSUMM01, official_draws, read_sysu
from mgot.data.synthetic.layout import write_sysu
from mgot.data.synthetic.presets import preset
from mgot.data.synthetic.settings import Settings
from mgot.engine.run import evaluate, train
from mgot.engine.setup import load_config
from mgot.engine.trainer import MGOTTrainer
from mgot.engine.watch.about import describe_run, describe_training_set
from mgot.errors import UserError
from mgot.evaluation import score_protocols
from tests.trees import (
    SYSU_COUNTS,
    SYSU_SPLITS,
    folder_tree,
    llcm_tree,
    random_draws,
    regdb_tree,
    save_draws,
    sysu_tree,
)

DEMO = str(Path(__file__).resolve().parent.parent / "projects/MGOT/configs/demo.yml")
ON = ("MGOT.DATA.VALIDATION", True)
Options = Callable[..., list[str]]


def test_validation_people_stand_where_test_people_did(tmp_path: Path) -> None:
    sysu_tree(tmp_path)
    lists = read_sysu(tmp_path, validation=True)
    assert {item.identity for item in lists.visible + lists.infrared} == set(SYSU_SPLITS["train"])
    assert {item.identity for item in lists.pool} == set(SYSU_SPLITS["val"])
    assert lists.remarks == []
    usual = read_sysu(tmp_path)
    assert set(usual.visible) - set(lists.visible) == set(lists.gallery)
    assert set(usual.infrared) - set(lists.infrared) == set(lists.query)


def test_every_draw_of_the_galleries_knows_validation_people(tmp_path: Path) -> None:
    splits = {"train": [1, 2], "val": [3, 4, 5], "test": [6, 7, 8]}
    folder = sysu_tree(tmp_path, splits=splits)
    draws = random_draws(SYSU_COUNTS)
    save_draws(folder / "exp/rand_perm_cam.mat", draws)
    lists = read_sysu(tmp_path, validation=True)
    features = np.random.default_rng(0).standard_normal((len(lists.pool), 4))
    for kind in ("official", "seeded"):
        asked = SYSUMM01(draws=kind).protocols(tmp_path, lists)
        rows = score_protocols(asked, identities(lists.pool), cameras(lists.pool), features=features)
        assert [row["draws"] for row in rows] == [kind] * 4
        for trial in (trial for protocol in asked for trial in protocol.trials):
            assert {lists.pool[i].identity for i in (*trial.query, *trial.gallery)} == set(splits["val"])
    official = official_draws(tmp_path)
    assert official is not None
    (first, *_), gallery = SYSUMM01(shots=[1], modes=["indoor"]).protocols(tmp_path, lists)[0].trials, lists.pool
    taken = [int(Path(gallery[i].path).stem) for i in first.gallery]
    assert taken == [draws[gallery[i].camera, gallery[i].identity][0][0] for i in first.gallery]


def test_copies_that_cannot_be_validated_on(tmp_path: Path) -> None:
    folder = sysu_tree(tmp_path)
    (folder / "exp/val_id.txt").write_text("3,4\n")
    with pytest.raises(UserError, match=r"identities \[3\] are both in training and in val_id\.txt"):
        read_sysu(tmp_path, validation=True)
    (folder / "exp/val_id.txt").unlink()
    with pytest.raises(UserError, match=r"val_id\.txt is missing"):
        read_sysu(tmp_path, validation=True)


@pytest.mark.parametrize(("name", "write"), [("RegDB", regdb_tree), ("LLCM", llcm_tree), ("Folder", folder_tree)])
def test_data_sets_without_validation_people_refuse(
    name: str, write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg = load_config(DEMO, ["DATASETS.NAMES", f"('{name}',)", *map(str, ON)])
    with pytest.raises(UserError, match=rf"MGOT\.DATA\.VALIDATION: {name} names no validation people"):
        build_train_loader(cfg)


def test_nobody_is_told_of_counts_that_must_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sysu_tree(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    assert build_dataset(load_config(DEMO), "SYSUMM01").count_warnings()
    assert build_dataset(load_config(DEMO, [str(part) for part in ON]), "SYSUMM01").count_warnings() == []


def test_a_training_says_whom_it_scored_and_leaves_the_test_people_unseen(tiny_options: Options) -> None:
    short = ("SOLVER.MAX_EPOCH", 1, "MGOT.TEST.STAGES", ["final"], "MGOT.TEST.SYSU_MODES", ["all"])
    cfg = load_config(DEMO, tiny_options(*short, *ON))
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True)
    train(cfg, resume=False)
    assert json.loads((folder / "results.json").read_text())["people"] == "validation"
    weights = folder / "model_final.pth"
    assert torch.load(weights, weights_only=True)["about"] == {"dataset": "SYSUMM01", "people": "validation"}
    for asked, people in (((), "test"), (ON, "validation")):
        evaluate(load_config(DEMO, tiny_options(*short, *asked, "MODEL.WEIGHTS", weights)))
        assert json.loads((folder / "evaluation/results.json").read_text())["people"] == people


def test_people_trained_on_are_not_scored(tiny_options: Options, tmp_path: Path) -> None:
    weights = tmp_path / "trained.pth"
    cfg = load_config(DEMO, tiny_options())
    assert describe_run(cfg)["people"] == "test"
    about = describe_training_set(cfg)
    torch.save({"model": MGOTTrainer.build_model(cfg).state_dict(), "about": about}, weights)
    with pytest.raises(UserError, match=r"trained on the validation people too: set MGOT\.DATA\.VALIDATION False"):
        evaluate(load_config(DEMO, tiny_options(*ON, "MODEL.WEIGHTS", weights)))


def test_more_validation_people_are_generated(tmp_path: Path) -> None:
    few = {"test_identities": 1, "visible_per_camera": 1, "infrared_per_camera": 1, "width": 16}
    settings = preset("warm", train_identities=6, validation_identities=4, **few)
    lists = read_sysu(write_sysu(tmp_path, settings, processes=1).parent, validation=True)
    assert {item.identity for item in lists.visible} == {1, 2}
    assert {item.identity for item in lists.gallery} == {3, 4, 5, 6}
    assert Settings(train_identities=25).validation_people == 2
    for wrong in (0, 6):
        with pytest.raises(UserError, match="validation_identities"):
            preset("warm", train_identities=6, validation_identities=wrong)
