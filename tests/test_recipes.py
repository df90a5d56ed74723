"""The recipes of other methods: each builds and steps, and its row of the grid has its keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mgot.engine.config.keys import flat
from mgot.engine.resume.checkpoint import load_tensors
from mgot.engine.run import train
from mgot.engine.setup import load_config

REPO = Path(__file__).resolve().parent.parent
ABLATION = str(REPO / "projects/MGOT/configs/ablation.yml")
RECIPES = sorted((REPO / "projects/MGOT/configs/recipes").glob("*.yml"))
GRID = REPO / "projects/MGOT/ablations/recipes.yml"
ROWS: dict[str, dict[str, Any]] = yaml.safe_load(GRID.read_text())["tables"][0]["rows"]
# Of the data set and the schedule, which the rows of the grid share.
OWN_SCALE = ("MODEL.", "DATASETS.", "DATALOADER.", "SOLVER.", "OUTPUT_DIR", "MGOT.CROSS_START_EPOCH", "MGOT.DEN.",
             "_BASE_", "MGOT.LOSS.MARGINAL_VISIBLE")  # fmt: skip
SMALL = (
    "MODEL.BACKBONE.PRETRAIN", False, "MODEL.BACKBONE.NAME", "build_slim_resnet_backbone",
    "MODEL.BACKBONE.DEPTH", "10x", "MODEL.BACKBONE.FEAT_DIM", 256,
    "MODEL.BACKBONE.WITH_NL", False, "INPUT.SIZE_TRAIN", [64, 32], "INPUT.SIZE_TEST", [64, 32],
    "SOLVER.MAX_EPOCH", 3, "SOLVER.STEPS", [1], "SOLVER.WARMUP_ITERS", 0,
    "MGOT.CROSS_START_EPOCH", 1, "MGOT.ITERS_PER_EPOCH", 1,
    "SOLVER.IMS_PER_BATCH", 32, "DATALOADER.NUM_INSTANCE", 4, "DATALOADER.NUM_WORKERS", 0, "MGOT.CLUSTER.K1", 8,
    "MGOT.CLUSTER.K2", 3, "MGOT.CLUSTER.EPS", 0.47, "MGOT.MATCHER.JOINT_K1", 8, "MGOT.MATCHER.JOINT_EPS", 0.47,
    "MGOT.TEST.TRIALS", 1, "MGOT.TEST.STAGES", ["final"],
    "MGOT.TEST.SYSU_MODES", ["all"], "MGOT.TEST.SYSU_SHOTS", [1], "SEED", 0,
)  # fmt: skip


def test_each_recipe_has_a_row() -> None:
    assert {path.stem for path in RECIPES} == {name for name in ROWS if not name.startswith("mgot")}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_row_has_the_recipes_keys(path: Path) -> None:
    own = dict(flat(yaml.safe_load(path.read_text())))
    assert ROWS[path.stem] == {key: value for key, value in own.items() if not key.startswith(OWN_SCALE)}


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_steps_in_both_stages_and_both_directions(
    path: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTREID_DATASETS", str(tiny_root))
    cfg = load_config(str(path), [*map(str, SMALL), "OUTPUT_DIR", str(tmp_path)])
    torch.manual_seed(0)
    train(cfg, resume=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    logged = {key for line in lines for key in line if key.startswith("loss_")}
    weights = {key.removeprefix("W_").lower(): value for key, value in cfg.MGOT.LOSS.items() if key.startswith("W_")}
    assert logged == {f"loss_{name}" for name, weight in weights.items() if weight}
    assert all(line["total_loss"] < 1e4 for line in lines if "total_loss" in line)
    kept = load_tensors(tmp_path / "model_final.pth")
    assert kept["memories"]["by"] == (cfg.MGOT.CROSS_STAGE.UPDATE or cfg.MGOT.LOSS.UPDATE)


@pytest.mark.slow
def test_a_row_steps_on_the_demos_network(tiny_options: Callable[..., list[str]], tmp_path: Path) -> None:
    row = [str(part) for pair in ROWS["rpnr"].items() for part in pair]
    cfg = load_config(ABLATION, [*tiny_options("MGOT.LOSS.W_ADV", 0.0), *row])
    train(cfg, resume=False)
    lines = (tmp_path / "run/metrics.json").read_text().splitlines()
    assert any("loss_hybrid" in json.loads(line) for line in lines)
