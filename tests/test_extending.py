"""The files of docs/extending.md train by key as they stand there: one file, one decorator, nothing else."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from mgot.clustering import CLUSTERERS
from mgot.engine.config.builders import ground_truth_used
from mgot.engine.config.keys import same_intra_stage
from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.losses import LOSSES, Batch, CrossBatch, register_loss
from mgot.matching import MATCHERS
from mgot.registry import Registry
from tests.examples import ROOT, TEXT, code, command, section

DEMO = str(ROOT / "projects/MGOT/configs/demo.yml")
ONE_EPOCH = ("MGOT.TEST.STAGES", ["final"], "MGOT.TEST.SYSU_MODES", ["all"], "MGOT.CROSS_START_EPOCH", 0,
             "SOLVER.MAX_EPOCH", 1, "MGOT.ITERS_PER_EPOCH", 1)  # fmt: skip
Options = Callable[..., list[str]]
REGISTRIES: tuple[Registry, ...] = (CLUSTERERS, MATCHERS, LOSSES)  # type: ignore[type-arg]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Nothing stays registered."""
    kept = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, before in zip(REGISTRIES, kept, strict=True):
        registry.clear()
        registry.update(before)


@pytest.fixture
def trained(
    tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path, dict[str, float]]]:
    """An example's file run by its own command line and further pairs: the run's folder, and what it logged."""

    def train(heading: str, *more: object) -> tuple[Path, dict[str, float]]:
        name, pairs = command(heading)
        (tmp_path / name).write_text(code(heading))
        folder = tmp_path / "run"
        options = tiny_options(*ONE_EPOCH, *pairs, *more, "OUTPUT_DIR", folder)
        monkeypatch.syspath_prepend(str(ROOT / "tools"))
        monkeypatch.setattr(sys, "argv", [name, "--config-file", DEMO, *options])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(tmp_path / name), run_name="__main__")
        assert ended.value.code == 0
        lines = (folder / "metrics.json").read_text().splitlines()
        return folder, {key: value for line in lines for key, value in json.loads(line).items()}

    return train


def decorators(source: str) -> list[str]:
    """Names of the decorators that register something."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    calls = [each.func for node in classes for each in node.decorator_list if isinstance(each, ast.Call)]
    return [call.id for call in calls if isinstance(call, ast.Name) and call.id.startswith("register_")]


@pytest.mark.parametrize("part", ["clusterer", "matcher", "loss"])
def test_an_example_is_one_file_with_one_decorator(part: str) -> None:
    assert decorators(code(f"A {part}")) == [f"register_{part}"]


@pytest.mark.slow
def test_the_example_of_a_clusterer_trains(trained: Callable[..., tuple[Path, dict[str, float]]]) -> None:
    folder, logged = trained("A clusterer", "MGOT.CLUSTER.COUNT", 6)
    assert logged["visible/clusters"] == logged["infrared/clusters"] == 6
    assert logged["visible/outliers"] == 0 and logged["loss_ccl"] > 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["MGOT"]["CLUSTER"]["COUNT"] == 6


@pytest.mark.slow
def test_the_example_of_a_matcher_trains(trained: Callable[..., tuple[Path, dict[str, float]]]) -> None:
    folder, logged = trained("A matcher", "MGOT.MATCHER.MIN_SIZE", 25)
    assert json.loads((folder / "results.json").read_text())["matcher"] == "nearest_large"
    assert logged["matching/unmatched"] >= 0.5  # an identity has 12 infrared images


@pytest.mark.slow
def test_the_example_of_a_loss_trains(trained: Callable[..., tuple[Path, dict[str, float]]]) -> None:
    folder, logged = trained("A loss")
    terms = {name: value for name, value in logged.items() if name.startswith("loss_")}
    assert terms["loss_uniformity"] < 0 and sum(terms.values()) == pytest.approx(logged["total_loss"], rel=1e-5)
    keys = yaml.safe_load((folder / "config.yaml").read_text())["MGOT"]["LOSS"]
    assert (keys["W_UNIFORMITY"], keys["UNIFORMITY_RATE"]) == (0.05, 3.0)


@pytest.mark.slow
def test_the_example_of_a_recipe_is_short_and_trains(
    tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, (overlay,) = command("A recipe")
    (keys,) = re.findall(r"^```yaml\n(.*?)^```", section("A recipe"), re.MULTILINE | re.DOTALL)
    part = code("A recipe")
    assert len([line for line in (part + keys).splitlines() if line.strip()]) < 40
    (tmp_path / name).write_text(part)
    (tmp_path / overlay).write_text(keys)
    options = tiny_options(*ONE_EPOCH, "MGOT.LOSS.W_ADV", 0.0)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.setattr(sys, "argv", [name, "--config-file", DEMO, str(tmp_path / overlay), *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tmp_path / name), run_name="__main__")
    assert ended.value.code == 0
    folder = Path(options[options.index("OUTPUT_DIR") + 1])
    assert json.loads((folder / "results.json").read_text())["matcher"] == "mutual_pairs"
    logged = {key for line in (folder / "metrics.json").read_text().splitlines() for key in json.loads(line)}
    assert {key for key in logged if key.startswith("loss_")} == {"loss_vcl", "loss_icl", "loss_accl"}


def test_the_walk_trains_the_example_of_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    name, pairs = command("In ten minutes")
    assert name == command("A loss")[0]
    exec(code("A loss"), {"__name__": __name__})
    cfg = load_config(DEMO, pairs)
    assert cfg.MGOT.LOSS.W_UNIFORMITY == 0.05
    assert 0 < cfg.MGOT.CROSS_START_EPOCH < cfg.SOLVER.MAX_EPOCH == 3


def test_the_batch_of_the_document_is_the_batch() -> None:
    table = TEXT.split("\n## A loss\n")[1].split("| field | shape |")[1].split("\n\n")[0]
    named = {word for row in table.splitlines()[2:] for word in row.split("|")[1].replace(",", " ").split()}
    assert {name.strip("`") for name in named if name.startswith("`") and "=" not in name} == set(
        CrossBatch.__dataclass_fields__
    )


def test_a_loss_from_outside_brings_its_keys_and_its_stage() -> None:
    @register_loss("apart", stage="cross", weight=0.25)
    def apart(batch: CrossBatch) -> torch.Tensor:
        return batch.f_v.sum()

    @register_loss("near")
    def near(batch: Batch) -> torch.Tensor:
        return batch.f_v.sum()

    cfg = load_config(DEMO)
    assert (cfg.MGOT.LOSS.W_APART, cfg.MGOT.LOSS.W_NEAR) == (0.25, 1.0)
    assert same_intra_stage("MGOT.LOSS.W_APART") and not same_intra_stage("MGOT.LOSS.W_NEAR")
    with pytest.raises(UserError, match=r"MGOT\.LOSS\.W_APART must be 0 or more, not -1"):
        load_config(DEMO, ["MGOT.LOSS.W_APART", "-1"])


def test_an_oracle_from_outside_is_marked() -> None:
    from mgot.clustering import TrueClusters, register_clusterer
    from mgot.matching import Oracle, register_matcher

    register_clusterer("knows")(type("Knows", (TrueClusters,), {}))
    register_matcher("knows")(type("Knows", (Oracle,), {}))
    for keys, used in (
        (["MGOT.CLUSTER.NAME", "knows"], "clusters"),
        (["MGOT.MATCHER.NAME", "knows"], "matches"),
        (["MGOT.CLUSTER.NAME", "knows", "MGOT.MATCHER.NAME", "knows"], "clusters and matches"),
    ):
        assert ground_truth_used(load_config(DEMO, keys)) == used
