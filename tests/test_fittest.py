"""The epoch that is kept without a label: the fittest one's weights, scored beside the last."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mgot.engine.resume.checkpoint import FITTEST
from mgot.engine.resume.fittest import FittestHook
from mgot.engine.run import evaluate, train
from mgot.engine.setup import load_config
from mgot.engine.watch.evaluator import Scores
from mgot.errors import UserError
from mgot.evaluation.results import ResultsFile
from mgot.matching import Matching, correspondence
from mgot.principles import fitness
from tests.test_saving import full_disk

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
Options = Callable[..., list[str]]


def matching_of(share: float) -> Matching:
    """Two mutual matches, each with that share of its row."""
    scores = np.array([[share, 1 - share], [1 - share, share]])
    return correspondence(np.arange(2), np.arange(2), scores, "visible")


def trainer_at(epoch: int, share: float, model: torch.nn.Module) -> Any:
    logged: dict[str, float] = {}
    return SimpleNamespace(
        epoch=epoch,
        start_iter=0,
        donor=None,
        max_epoch=9,
        cfg=None,
        network=model,
        state=SimpleNamespace(epoch=SimpleNamespace(matching=matching_of(share))),
        checkpointer=SimpleNamespace(about={"dataset": "made"}),
        storage=SimpleNamespace(logged=logged, put_scalar=lambda name, value, **_: logged.update({name: value})),
    )


def fittest_hook(folder: Path, at_the_end: float = 0.0, *, cross_start: int = 2) -> FittestHook:
    """The hook of a run at whose end two matches have this share of their rows."""
    results = ResultsFile(folder / "results.json", {})
    return FittestHook(folder, results, cross_start=cross_start, match_again=lambda _: matching_of(at_the_end))


def test_fitness_is_the_share_of_mutual_matches_times_confidence() -> None:
    assert fitness(matching_of(0.8)) == pytest.approx(0.8)
    one_sided = correspondence(np.array([0, 0]), np.array([1, 1]), np.full((2, 2), 0.5), "visible")
    assert fitness(one_sided) == pytest.approx(0.5 * 0.5)
    nothing = correspondence(np.empty(0, dtype=int), np.array([-1]), np.zeros((0, 1)), "visible")
    assert fitness(nothing) == 0.0


def test_a_full_disk_costs_the_fittest_weights_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mgot"), "propagate", True)
    monkeypatch.setattr(torch, "save", full_disk)
    hook = fittest_hook(tmp_path)
    hook.trainer = trainer_at(3, 0.9, torch.nn.Linear(1, 1))
    hook.before_train()
    hook.before_epoch()
    assert "fittest.pth could not be written" in caplog.text and not (tmp_path / FITTEST).exists()


def test_the_weights_of_the_fittest_cross_epoch_are_kept(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    hook = fittest_hook(tmp_path)
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
    again = fittest_hook(tmp_path)
    again.trainer = trainer_at(6, 0.8, model)
    again.trainer.start_iter = 60
    again.before_train()
    again.before_epoch()
    assert torch.load(tmp_path / FITTEST, weights_only=True)["epoch"] == 3


@pytest.mark.parametrize(("at_the_end", "kept"), [(0.95, (8, 9.0)), (0.6, (4, 5.0))])
def test_the_last_epochs_weights_compete(
    at_the_end: float, kept: tuple[int, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torch.nn.Linear(1, 1)
    scored: list[float] = []

    def score(cfg: Any, network: torch.nn.Linear) -> Scores:
        scored.append(network.weight.item())
        return Scores([{"protocol": "made", "rank1": 50.0}], [])

    monkeypatch.setattr("mgot.engine.resume.fittest.score_model", score)
    hook = fittest_hook(tmp_path, at_the_end)
    for epoch in range(9):
        hook.trainer = trainer_at(epoch, 0.9 if epoch == 5 else 0.5, model)
        hook.before_epoch()
        with torch.no_grad():
            model.weight.fill_(epoch + 1)
        hook.after_epoch()
        assert ("matching/final_fitness" in hook.trainer.storage.logged) == (epoch == 8)
    assert hook.trainer.storage.logged["matching/final_fitness"] == pytest.approx(at_the_end)
    assert "seconds/fittest" in hook.trainer.storage.logged
    content = torch.load(tmp_path / FITTEST, weights_only=True)
    assert (content["epoch"], float(content["model"]["weight"])) == kept
    assert scored == [kept[1]] and float(model.weight) == 9.0
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["epoch"] == kept[0] and row["fitness"] == pytest.approx(max(at_the_end, 0.9))


def test_a_run_without_cross_stage_is_not_labelled_once_more(tmp_path: Path) -> None:
    def refuse(epoch: int) -> Matching:
        raise AssertionError("labelled for nothing")

    hook = FittestHook(tmp_path, ResultsFile(tmp_path / "results.json", {}), cross_start=9, match_again=refuse)
    hook.trainer = trainer_at(8, 0.5, torch.nn.Linear(1, 1))
    hook.after_epoch()
    assert hook.trainer.storage.logged == {} and not (tmp_path / FITTEST).exists()


def test_a_run_that_begins_from_another_forgets_an_earlier_file(tmp_path: Path) -> None:
    torch.save({"model": {}, "epoch": 7, "fitness": 1.0}, tmp_path / FITTEST)
    hook = fittest_hook(tmp_path)
    hook.trainer = trainer_at(2, 0.5, torch.nn.Linear(1, 1))
    hook.trainer.start_iter, hook.trainer.donor = 20, tmp_path / "other/model_intra.pth"
    hook.before_train()
    assert not (tmp_path / FITTEST).exists()


LAYERS = torch.nn.Linear(1, 1).state_dict()


@pytest.mark.parametrize(
    "content",
    [
        {"model": {}},
        {"model": torch.nn.Linear(2, 1).state_dict(), "epoch": 2, "fitness": 0.5},
        {"model": {**LAYERS, "more": torch.zeros(1)}, "epoch": 2, "fitness": 0.5},
        {"model": {**LAYERS, "bias": torch.zeros(1).expand(1 << 40)}, "epoch": 2, "fitness": 0.5},
        {"model": LAYERS, "epoch": 2, "fitness": float("inf")},
        {"model": LAYERS, "epoch": 2, "fitness": float("nan")},
    ],
)
def test_a_damaged_file_is_named(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / FITTEST)
    hook = fittest_hook(tmp_path)
    hook.trainer = trainer_at(3, 0.5, torch.nn.Linear(1, 1))
    hook.trainer.start_iter = 30
    with pytest.raises(UserError, match=r"fittest\.pth: holds no fittest epoch"):
        hook.before_train()


def logged_fitness(folder: Path, steps: int) -> dict[int, float]:
    """Epoch that left the weights -> their fitness, as metrics.json has it."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    found = {line["iteration"] // steps - 1: line["matching/fitness"] for line in lines if "matching/fitness" in line}
    last = {
        line["iteration"] // steps: line["matching/final_fitness"] for line in lines if "matching/final_fitness" in line
    }
    return found | last


def test_the_fittest_epoch_is_scored_as_its_file_is(tiny_options: Options) -> None:
    options = tiny_options("SOLVER.MAX_EPOCH", 3, "MGOT.CROSS_START_EPOCH", 1, "MGOT.TEST.SYSU_MODES", ["all"])
    cfg = load_config(DEMO, options)
    folder = Path(cfg.OUTPUT_DIR)
    train(cfg, resume=False)
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert [row["stage"] for row in rows] == ["initial", "intra", "fittest", "final"]
    fittest, found = rows[2], logged_fitness(folder, 2)
    assert list(found) == [1, 2] and fittest["fitness"] == max(found.values()) == found[fittest["epoch"]]
    evaluate(load_config(DEMO, [*options, "MODEL.WEIGHTS", str(folder / FITTEST)]))
    scored = json.loads((folder / "evaluation/results.json").read_text())["rows"][0]
    assert scored["rank1"] == fittest["rank1"] and scored["mAP"] == fittest["mAP"]
    final = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    kept = torch.load(folder / FITTEST, weights_only=True)["model"]
    same = all(torch.equal(final[name], kept[name]) for name in final)
    assert same == (fittest["epoch"] == 2)


def test_a_longer_run_measures_what_the_shorter_one_measured_at_its_end(tiny_options: Options, tmp_path: Path) -> None:
    keys: tuple[object, ...] = ("MGOT.TEST.SYSU_MODES", ["all"], "TEST.FLIP.ENABLED", False)
    keys = (*keys, "MGOT.CROSS_START_EPOCH", 0, "MGOT.MATCHER.VIEW", "spectral")  # which each epoch draws anew
    for resume, epochs in ((False, 1), (True, 2), (True, 2)):
        torch.manual_seed(0)  # as the command does: new layers begin alike
        train(load_config(DEMO, tiny_options(*keys, "SOLVER.MAX_EPOCH", epochs), resume=resume), resume=resume)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    at_its_end, at_the_next_start = (
        [line[name] for line in lines if name in line] for name in ("matching/final_fitness", "matching/fitness")
    )
    assert len(at_its_end) == 2 and at_its_end[0] == at_the_next_start[0]
    torch.manual_seed(0)
    train(load_config(DEMO, tiny_options(*keys, "OUTPUT_DIR", tmp_path / "straight")), resume=False)
    kept = [torch.load(tmp_path / name / FITTEST, weights_only=True) for name in ("run", "straight")]
    assert kept[0]["epoch"] == kept[1]["epoch"] and kept[0]["fitness"] == kept[1]["fitness"]
    assert all(torch.equal(kept[0]["model"][name], value) for name, value in kept[1]["model"].items())
