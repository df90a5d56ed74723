"""The short form of kill_training.py: a training survives kills at any moment, and ends as if there had been none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import write_coloured_people
from tests.kill_training import torment


@pytest.mark.slow
def test_a_training_survives_kill_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coloured_people(tmp_path, n_train=6, n_test=2, per_camera=4)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    counts = torment(tmp_path, kills=6, seed=1)
    assert counts["kills"] == 6 and counts["runs_completed"] >= 1
