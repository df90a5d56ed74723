"""The benchmarks run and keep their last line's promise; what they measure is not tested."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tests.reference_clustering as reference
from benchmarks._dense import dense_pseudo_labels
from benchmarks._features import DIFFICULTIES, describe, generate
from benchmarks._measure import in_fresh_process
from mgot.errors import UserError
from tests.scripts import script

DEMO = Path(__file__).resolve().parents[1] / "projects/MGOT/configs/demo.yml"


def load_tool() -> ModuleType:
    return script("tools/benchmark.py")


def nothing(argument: int) -> int:
    return argument


def allocate(megabytes: int) -> int:
    return int(np.ones(megabytes * 1_000_000, dtype=np.int8).sum())


def keep(prepared: int, result: int) -> tuple[int, int]:
    return prepared, result


def fail(argument: int) -> int:
    raise ValueError(f"no {argument}")


@pytest.mark.slow
def test_pseudo_labels_against_dense_end_in_a_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "pseudo-labels",
        "--n",
        "150",
        "200",
        "--dim",
        "16",
        "--against",
        "dense",
        "--difficulty",
        "hard",
        "--json",
    ]
    assert load_tool().main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    row = json.loads(lines[-1])
    assert {"seconds", "peak_gb", "time_ratio", "memory_ratio", "identical"} <= set(row)
    assert row["identical"] is True
    assert row["distance_gap"] < 1e-5
    assert [part["n"] for part in row["rows"]] == [150, 200]
    assert any("labels identical" in line for line in lines)


@pytest.mark.slow
def test_memory_and_failures_of_a_fresh_process_are_told() -> None:
    measured = in_fresh_process(nothing, allocate, keep, 300)
    assert measured.result == (300, 300_000_000)
    assert 0.29 < measured.peak_gb < 0.4
    with pytest.raises(UserError, match="ValueError: no 5"):
        in_fresh_process(nothing, fail, keep, 5)


def test_mistakes_end_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        load_tool().main(["pseudo-labels", "--n", "1"])
    assert "argument --n: must be 2 to 10000000, not '1'" in capsys.readouterr().err
    assert load_tool().main(["pseudo-labels", "--k1", "5"]) == 2
    assert "--k2 must be between 1 and --k1 (5), not 6" in capsys.readouterr().err


@pytest.mark.parametrize("noise", [0.8, 2.5])
def test_dense_reference_agrees_with_plain_loops(noise: float) -> None:
    features = reference.blobs(250, noise=noise)
    found = dense_pseudo_labels(features, k1=20, k2=4, eps=0.6, min_samples=4)
    np.testing.assert_array_equal(found.labels, reference.labels(features, 20, 4))
    np.testing.assert_allclose(found.distances, reference.jaccard(features, 20, 4), atol=1e-5)


@pytest.mark.parametrize("name", sorted(DIFFICULTIES))
def test_generated_features_are_of_length_one_and_seeded(name: str) -> None:
    first, second = (generate(500, 32, DIFFICULTIES[name], per_identity=10, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_allclose(np.linalg.norm(first[0], axis=1), 1, atol=1e-5)
    assert "within" in describe(*first)
    sizes = np.bincount(first[1])
    assert ((sizes == 1).sum() > 20) == (DIFFICULTIES[name].strangers > 0)


def test_loader_and_its_reference_end_in_a_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["loader", "--size", "32", "16", "--classes", "2", "--instances", "2", "--steps", "1", "--repeats", "1"]
    assert load_tool().main([*command, "--device", "cpu", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["rate_ratio"] > 0 and set(row["images_per_second"]) == {"ours", "per image"}


@pytest.mark.slow
def test_step_and_its_reference_end_in_a_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(DEMO)
    keys = ["INPUT.SIZE_TRAIN", "[32, 16]", "SOLVER.IMS_PER_BATCH", "16", "MODEL.DEVICE", "cpu"]
    assert load_tool().main(["step", "--config-file", config, "--repeats", "1", "--profile", "--json", *keys]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = json.loads(lines[-1])
    assert row["images"] == 24 and row["flops"] > 0 and row["share"] > 0
    assert any("Self CPU" in line for line in lines)
