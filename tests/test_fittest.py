"""The epoch that is kept without a label: the fittest one's weights, scored beside the last."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mgot.engine.resume.fittest import FITTEST, FittestHook
from mgot.engine.run import evaluate, train
from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.evaluation.results import ResultsFile
from mgot.matching import Matching, correspondence
from mgot.principles import fitness

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")


def matching_of(share: float) -> Matching:
    """Two mutual matches, each with that share of its row."""
    scores = np.array([[share, 1 - share], [1 - share, share]])
    return correspondence(np.arange(2), np.arange(2), scores, "visible")


def trainer_at(epoch: int, share: float, model: torch.nn.Module) -> Any:
    return SimpleNamespace(
        epoch=epoch,
        start_iter=0,
        donor=None,
        max_epoch=9,
        network=model,
        epoch_state=SimpleNamespace(matching=matching_of(share)),
        checkpointer=SimpleNamespace(about={"dataset": "made"}),
        storage=SimpleNamespace(put_scalar=lambda *_, **__: None),
    )


def test_fitness_is_the_share_of_mutual_matches_times_confidence() -> None:
    assert fitness(matching_of(0.8)) == pytest.approx(0.8)
    one_sided = correspondence(np.array([0, 0]), np.array([1, 1]), np.full((2, 2), 0.5), "visible")
    assert fitness(one_sided) == pytest.approx(0.5 * 0.5)
    nothing = correspondence(np.empty(0, dtype=int), np.array([-1]), np.zeros((0, 1)), "visible")
    assert fitness(nothing) == 0.0


def test_the_weights_of_the_fittest_cross_epoch_are_kept(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    hook = FittestHook(tmp_path, ResultsFile(tmp_path / "results.json", {}), cross_start=2)
    hook.trainer = trainer_at(0, 1.0, model)
    hook.before_train()
    for epoch, share in ((1, 1.0), (2, 1.0), (3, 0.6), (4, 0.9), (5, 0.7)):  # 1 and 2: weights of the intra stage
        with torch.no_grad():
            model.weight.fill_(epoch)
        hook.trainer = trainer_at(epoch, share, model)
        hook.before_epoch()
    kept = torch.load(tmp_path / FITTEST, weights_only=True)
    assert (kept["epoch"], float(kept["model"]["weight"])) == (3, 4.0)
    assert kept["fitness"] == pytest.approx(0.9)
    again = FittestHook(tmp_path, ResultsFile(tmp_path / "results.json", {}), cross_start=2)
    again.trainer = trainer_at(6, 0.8, model)
    again.trainer.start_iter = 60
    again.before_train()
    again.before_epoch()
    assert torch.load(tmp_path / FITTEST, weights_only=True)["epoch"] == 3


def test_a_run_that_begins_from_another_forgets_an_earlier_file(tmp_path: Path) -> None:
    torch.save({"model": {}, "epoch": 7, "fitness": 1.0}, tmp_path / FITTEST)
    hook = FittestHook(tmp_path, ResultsFile(tmp_path / "results.json", {}), cross_start=2)
    hook.trainer = trainer_at(2, 0.5, torch.nn.Linear(1, 1))
    hook.trainer.start_iter, hook.trainer.donor = 20, tmp_path / "other/model_intra.pth"
    hook.before_train()
    assert not (tmp_path / FITTEST).exists()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / FITTEST)
    hook = FittestHook(tmp_path, ResultsFile(tmp_path / "results.json", {}), cross_start=2)
    hook.trainer = trainer_at(3, 0.5, torch.nn.Linear(1, 1))
    hook.trainer.start_iter = 30
    with pytest.raises(UserError, match=r"fittest\.pth: holds no fittest epoch"):
        hook.before_train()


def test_the_fittest_epoch_is_scored_as_its_file_is(tiny_options: Callable[..., list[str]]) -> None:
    options = tiny_options("SOLVER.MAX_EPOCH", 3, "MGOT.CROSS_START_EPOCH", 1, "MGOT.TEST.SYSU_MODES", ["all"])
    cfg = load_config(DEMO, options)
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    train(cfg, resume=False)
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert [row["stage"] for row in rows] == ["initial", "intra", "fittest", "final"]
    fittest = rows[2]
    assert fittest["epoch"] == 1 and 0 <= fittest["fitness"] <= 1
    evaluate(load_config(DEMO, [*options, "MODEL.WEIGHTS", str(folder / FITTEST)]))
    scored = json.loads((folder / "evaluation/results.json").read_text())["rows"][0]
    assert scored["rank1"] == fittest["rank1"] and scored["mAP"] == fittest["mAP"]
    final = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    kept = torch.load(folder / FITTEST, weights_only=True)["model"]
    assert any(not torch.equal(final[name], kept[name]) for name in final)
