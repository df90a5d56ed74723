"""projects/MGOT copied by itself into a checkout of fast-reid: complete, and started as fast-reid's projects are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastreid.config import CfgNode

from tests.checkout import write_checkout
from tests.test_packaging import fixture_metadata  # noqa: F401  the fixture "metadata"

REPO = Path(__file__).resolve().parent.parent
PROJECT = REPO / "projects/MGOT"
Options = Callable[..., list[str]]
# Tells at the end whose code ran.
TELL = """
import atexit, sys
atexit.register(lambda: print("ran", *(sys.modules[name].__file__ for name in ("mgot", "fastreid", "mgot.engine.run"))))
"""
SLIM = ("MODEL.BACKBONE.NAME", "build_slim_resnet_backbone", "MODEL.BACKBONE.DEPTH", "10x",
        "MODEL.BACKBONE.FEAT_DIM", 256, "DATALOADER.NUM_WORKERS", 0, "MGOT.CLUSTER.EPS", 0.47,
        "MGOT.DATA.CHECK_COUNTS", False)  # fmt: skip


def copy_project(root: Path) -> Path:
    """The project alone, as one copies it by hand."""
    target = root / "projects/MGOT"
    shutil.copytree(PROJECT, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return target


def start(checkout: Path, config: str, *options: str) -> subprocess.CompletedProcess[str]:
    """fast-reid's own form of the command, from the checkout's root, where nothing leads to this repository."""
    hidden = checkout.parent / "told"
    hidden.mkdir(exist_ok=True)
    (hidden / "sitecustomize.py").write_text(TELL, encoding="utf-8")
    command = [sys.executable, "projects/MGOT/train_net.py", "--config-file", f"projects/MGOT/configs/{config}"]
    return subprocess.run(
        [*command, "--num-gpus", "1", *options],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "keys"),
    [("sysu.yml", SLIM), ("demo.yml", ("MODEL.BACKBONE.PRETRAIN", True, "MGOT.CLUSTER.MIN_SAMPLES", 2))],
)
def test_the_copy_trains_by_itself(config: str, keys: tuple[Any, ...], tiny_options: Options, tmp_path: Path) -> None:
    checkout = write_checkout(tmp_path / "fast-reid")
    copy_project(checkout)
    done = start(checkout, config, *tiny_options("MGOT.TEST.SYSU_MODES", ["all"], "OUTPUT_DIR", "logs/run", *keys))
    assert done.returncode == 0, done.stderr[-2000:]
    ran = done.stdout.splitlines()[-1].split()
    assert ran[0] == "ran" and all(Path(file).is_relative_to(checkout) for file in ran[1:]), ran
    results = json.loads((checkout / "logs/run/results.json").read_text())
    assert {"initial", "intra", "fittest", "final"} == {row["stage"] for row in results["rows"]}
    assert ("backbone weights from projects/MGOT/weights/" in done.stdout) == (config == "demo.yml")


@pytest.mark.slow
def test_a_mistake_in_the_copy_is_one_line(tmp_path: Path) -> None:
    checkout = write_checkout(tmp_path / "fast-reid")
    copy_project(checkout)
    done = start(checkout, "sysu.yml", "MGOT.LOS.W_CCL", "1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("train_net.py: ") and "did you mean 'MGOT.LOSS.W_CCL'" in done.stderr


def test_configs_need_nothing_outside_the_project(tmp_path: Path) -> None:
    copied = copy_project(tmp_path) / "configs"
    names = sorted(str(path.relative_to(copied)) for path in copied.rglob("*.yml"))
    assert {"Base-MGOT.yml", "sysu.yml", "regdb.yml", "llcm.yml", "demo.yml", "recipes/pgm.yml"} <= set(names)
    for name in names:
        merged = CfgNode.load_yaml_with_base(str(copied / name))
        assert merged == CfgNode.load_yaml_with_base(str(PROJECT / "configs" / name))
        assert merged["MODEL"]["META_ARCHITECTURE"] == "DEN"


def test_the_recipe_at_the_top_is_the_projects() -> None:
    top = REPO / "configs/Base-MGOT.yml"
    assert list(yaml.safe_load(top.read_text(encoding="utf-8"))) == ["_BASE_"]
    below = CfgNode.load_yaml_with_base(str(PROJECT / "configs/Base-MGOT.yml"))
    assert CfgNode.load_yaml_with_base(str(top)) == below


def test_requirements_of_the_copy_are_those_of_the_package(metadata: dict[str, Any]) -> None:
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == metadata["install_requires"]
