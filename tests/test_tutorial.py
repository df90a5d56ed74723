"""The tutorial runs as it stands: every block prints what is written below it and draws the pictures beside it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mgot.clustering import CLUSTERERS
from mgot.data.dataset import DATASETS
from mgot.losses import LOSSES
from mgot.matching import BELIEFS, MATCHERS
from tests.scripts import script

pytest.importorskip("matplotlib", reason="the pictures come with '.[viz]'")

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "tutorial"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
LARGEST = 100_000  # bytes of a picture


def loaded() -> ModuleType:
    return script("docs/run_tutorial.py")


tutorial = loaded()
TEXT = tutorial.DOCUMENT.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def fixture_registries() -> Iterator[None]:
    """What the tutorial registers is gone afterwards, from fast-reid's registry too where there is one."""
    registries: list[dict[str, Any]] = [CLUSTERERS, MATCHERS, BELIEFS, LOSSES, DATASETS]
    with contextlib.suppress(ImportError):
        from fastreid.data.datasets import DATASET_REGISTRY

        registries.append(DATASET_REGISTRY._obj_map)
    before = [dict(each) for each in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


def alike(printed: str, written: str) -> bool:
    """Equal words and whole numbers; decimals within 5 % and two units of their last digit: versions of BLAS differ."""
    if NUMBER.split(printed) != NUMBER.split(written):
        return False
    return all(close(*pair) for pair in zip(NUMBER.findall(printed), NUMBER.findall(written), strict=True))


def close(a: str, b: str) -> bool:
    if "." not in b:
        return a == b
    unit = 10.0 ** -len(b.partition(".")[2])
    return abs(float(a) - float(b)) <= 2.001 * unit + 0.05 * abs(float(b))


def grey(path: Path) -> np.ndarray:
    """A picture, small and grey: fonts and lines of different versions of Matplotlib look alike there."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((60, 30), Image.Resampling.BOX), dtype=np.float64)


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    blocks = tutorial.blocks(TEXT)
    outputs = tutorial.run([code for code, _ in blocks], tmp_path)
    wrong = [
        (printed, written) for printed, (_, written) in zip(outputs, blocks, strict=True) if not alike(printed, written)
    ]
    assert wrong == []
    drawn = sorted(path.name for path in (tmp_path / "tutorial").iterdir())
    assert drawn == sorted(path.name for path in PICTURES.iterdir())
    for name in drawn:
        assert np.abs(grey(tmp_path / "tutorial" / name) - grey(PICTURES / name)).mean() < 4.0, name


def test_its_pictures_are_small_and_shown() -> None:
    files = sorted(PICTURES.iterdir())
    assert files and max(path.stat().st_size for path in files) < LARGEST
    assert {f"tutorial/{path.name}" for path in files} == set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT))


def test_a_wrong_output_is_found() -> None:
    assert alike("30 clusters, loss 1.52\n", "30 clusters, loss 1.50\n")
    assert not alike("29 clusters, loss 1.50\n", "30 clusters, loss 1.50\n")
    assert not alike("30 clusters, loss 1.70\n", "30 clusters, loss 1.50\n")
    assert not alike("30 clusters\n", "30 groups\n")
    assert not alike("", "30 clusters\n")


def test_outputs_are_written_below_their_blocks(tmp_path: Path) -> None:
    text = "# T\n\n```python\nx = 2\n```\n\nThen\n\n```python\nprint(x)\n```\n\n```text\n3\n```\n\nEnd\n"
    outputs = tutorial.run([code for code, _ in tutorial.blocks(text)], tmp_path)
    assert outputs == ["", "2\n"]
    assert tutorial.rewritten(text, outputs) == text.replace("text\n3", "text\n2")
