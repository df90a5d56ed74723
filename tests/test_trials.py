"""RegDB's trials: averaged right, resumed, and refused across splits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.engine.run import evaluate
from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.evaluation.scoring import FIGURES
from mgot.evaluation.trials import mean_rows, train_trials

REPO = Path(__file__).resolve().parent.parent

FAKE_TRAINING = """
import json, pathlib, sys
keys = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder, trial = pathlib.Path(keys["OUTPUT_DIR"]), int(keys["MGOT.TEST.REGDB_TRIAL"])
if trial == 3:
    sys.exit(7)
folder.mkdir(parents=True)
row = {"stage": "final", "protocol": "p", **{name: float(trial) for name in NAMES}}
(folder / "results.json").write_text(json.dumps({"rows": [row], "seconds": {}}))
"""


@pytest.fixture
def training(tmp_path: Path) -> list[str]:
    script = tmp_path / "training.py"
    script.write_text(f"NAMES = {list(FIGURES)!r}\n{FAKE_TRAINING}")
    return [str(script)]


def test_mean_and_deviation_over_trials(training: list[str], tmp_path: Path) -> None:
    results = train_trials(training, tmp_path / "out", [1, 2])
    (row,) = json.loads(results.path.read_text())["rows"]
    assert row["rank1"] == 1.5 and row["rank1_std"] == 0.5 and row["n_trials"] == 2


def test_finished_trials_are_not_run_again_and_a_failure_is_named(training: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    train_trials(training, out, [1])
    train_trials(training, out, [1, 2])
    with pytest.raises(UserError, match="trial 3 ended with status 7"):
        train_trials(training, out, [1, 2, 3])


@pytest.mark.parametrize("value", ["Infinity", "NaN", "1e308"])
def test_a_trial_of_endless_figures_is_refused(value: str, training: list[str], tmp_path: Path) -> None:
    train_trials(training, tmp_path / "out", [1, 2])
    for trial in (1, 2):
        path = tmp_path / f"out/trial_{trial}/results.json"
        path.write_text(path.read_text().replace(f'"rank1": {trial}.0', f'"rank1": {value}'))
    with pytest.raises(UserError, match=r"trial_1/results\.json is damaged: remove it"):
        train_trials(training, tmp_path / "out", [1, 2])


def test_a_trial_without_rows_is_refused() -> None:
    with pytest.raises(UserError, match="no final rows"):
        mean_rows([[]])


def test_a_checkpoint_of_another_split_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgot.engine.trainer.MGOTTrainer.build_model", lambda cfg: nn.Linear(1, 1))
    AtomicCheckpointer(nn.Linear(1, 1), str(tmp_path), about={"dataset": "RegDB", "split": 4}).save("model_final")
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["about"]["split"] == 4
    recipe = str(REPO / "projects/MGOT/configs/regdb.yml")
    cfg = load_config(recipe, ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth"), "OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(UserError, match=r"trained on split 4 of RegDB"):
        evaluate(cfg)
