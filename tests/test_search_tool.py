"""tools/search.py with models of the project: features are the evaluation's, and mistakes are one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from tools.search import main

from mgot.data.image_set import ImageSet
from mgot.data.items import Item
from mgot.data.loaders import build_ordered_loader
from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.modeling.extraction import extract
from mgot.retrieval.embedder import embed_files
from mgot.retrieval.models import load_embedder

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
TWO_STREAM = ("MGOT.DEN.TWO_STREAM_STEM", "['conv1']")
Options = Callable[..., list[str]]


def left_by_training(folder: Path, options: list[str]) -> Path:
    """A checkpoint of random weights and its config.yaml, as a training leaves them."""
    cfg = load_config(DEMO, options)
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".infrared." in name:
                parameter.add_(torch.randn_like(parameter))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict(), "about": {}}, folder / "model_final.pth")
    return folder / "model_final.pth"


@pytest.fixture
def weights(tiny_options: Options, tmp_path: Path) -> Path:
    return left_by_training(tmp_path / "run", tiny_options())


@pytest.fixture
def gallery(tiny_root: Path, tmp_path: Path) -> Path:
    """Images of two cameras; the index then lies beside this link's target, so each test names its own."""
    folder = tmp_path / "gallery"
    folder.mkdir()
    for camera in ("cam1", "cam2"):
        (folder / camera).symlink_to(tiny_root / "SYSU-MM01" / camera)
    return folder


@pytest.fixture
def query(tiny_root: Path) -> Path:
    return tiny_root / "SYSU-MM01/cam3/0003/0001.jpg"


def search(weights: Path, gallery: Path, query: Path, *more: object) -> int:
    command = ["--weights", weights, "--gallery", gallery, "--query", query, "--output", gallery.parent / "sheet.png"]
    return main([str(part) for part in (*command, *more)])


def results(out: str) -> list[tuple[str, float]]:
    return [(each["path"], each["distance"]) for each in json.loads(out)["queries"][0]["results"]]


def test_first_search_and_second(weights: Path, gallery: Path, query: Path, capsys: Any) -> None:
    assert search(weights, gallery, query, "--json", "--top", 4) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["images"], first["embedded"], first["exact"]) == (144, 144, True)
    assert len(first["queries"][0]["results"]) == 4
    assert Path(first["sheet"]).is_file() and Path(first["index"]) == gallery.with_name("gallery.mgot-index.npz")
    assert search(weights, gallery, query, "--top", 4) == 0
    text = capsys.readouterr().out
    assert "0 embedded now" in text
    assert all(each["path"] in text for each in first["queries"][0]["results"])


def test_features_are_the_evaluations(weights: Path, gallery: Path) -> None:
    paths = sorted(gallery.glob("cam*/*/*.jpg"))[:5]
    features = list(embed_files(load_embedder(weights), paths, visible=None))
    cfg = load_config(str(weights.parent / "config.yaml"), ["MODEL.WEIGHTS", str(weights)])
    model = build_model(cfg)
    model.load_state_dict(torch.load(weights, weights_only=True)["model"])
    images = ImageSet([Item(str(path), 0, 1, 1) for path in paths], cfg.INPUT.SIZE_TEST)
    expected = extract(model, build_ordered_loader(images, 2, 0, device="cpu"), flip=cfg.TEST.FLIP.ENABLED)
    np.testing.assert_allclose(np.stack([np.asarray(each) for each in features]), expected.numpy(), atol=1e-5)


def test_weights_and_keys_that_matter_build_the_index_anew(
    weights: Path, gallery: Path, query: Path, tiny_options: Options, capsys: Any
) -> None:
    def embedded(weights: Path) -> int:
        assert search(weights, gallery, query, "--json") == 0
        return int(json.loads(capsys.readouterr().out)["embedded"])

    assert embedded(weights) == 144
    assert embedded(left_by_training(weights.parent / "same", tiny_options("SOLVER.BASE_LR", 0.1))) == 0
    assert embedded(left_by_training(weights.parent / "flip", tiny_options("TEST.FLIP.ENABLED", False))) == 144
    state = torch.load(weights, weights_only=True)
    state["model"]["backbone.conv1.weight"] += 0.1
    torch.save(state, weights)
    assert embedded(weights) == 144


def test_two_stream_stem_asks_for_the_modality(
    gallery: Path, query: Path, tiny_options: Options, tmp_path: Path, capsys: Any
) -> None:
    weights = left_by_training(tmp_path / "two", tiny_options(*TWO_STREAM))
    assert search(weights, gallery, query) == 2
    assert "add --query-modality" in capsys.readouterr().err
    found = []
    for modality in ("infrared", "visible"):
        assert search(weights, gallery, query, "--json", "--query-modality", modality) == 0
        found.append(results(capsys.readouterr().out))
    assert found[0] != found[1]


def other_architecture(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)["model"]
    del state["backbone.conv1.weight"]
    state["backbone.extra.weight"] = torch.zeros(1)
    state["heads.bottleneck.bias"] = torch.zeros(3)
    torch.save(state, weights)


def not_finite(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    state["model"]["heads.bottleneck.bias"].fill_(float("nan"))
    torch.save(state, weights)


@pytest.mark.parametrize(
    ("harm", "more", "message"),
    [
        (lambda weights: weights.unlink(), [], "no such file: name a checkpoint"),
        (lambda weights: weights.write_text("x"), [], "not a readable checkpoint"),
        (lambda weights: torch.save([1], weights), [], "holds no model"),
        (other_architecture, [], "1 tensors are missing (backbone.conv1.weight); 1 tensors are unknown"),
        (other_architecture, [], "1 tensors have another shape (heads.bottleneck.bias)"),
        (lambda weights: (weights.parent / "config.yaml").unlink(), [], "has no config.yaml beside it"),
        (not_finite, [], "model_final.pth: its features hold NaN or infinity"),
        (lambda weights: None, ["--weights", "w" * 300], "no such file: name a checkpoint"),
        (lambda weights: None, ["--config-file", "c" * 300], "no such file"),
        (lambda weights: None, ["--output", "sheet.xbm"], ".xbm is not an image format"),
        (lambda weights: None, ["--output", f"{__file__}/deep.jpg"], "is not a folder"),
        (lambda weights: None, ["--config-file", "nowhere.yml"], "nowhere.yml: no such file"),
        (lambda weights: None, ["--output", "sheet.txt"], ".txt is not an image format"),
        (lambda weights: None, ["--top", "0"], "--top must be 1 or more"),
        (lambda weights: None, ["--query", "none.png"], "--query none.png does not exist"),
    ],
)
def test_mistakes_are_one_line(
    harm: Callable[[Path], object],
    more: list[str],
    message: str,
    weights: Path,
    gallery: Path,
    query: Path,
    capsys: Any,
) -> None:
    harm(weights)
    assert search(weights, gallery, query, *more) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and told.out == ""
    assert not list(gallery.parent.glob("*.npz"))


def test_an_export_takes_no_config(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UserError, match="leave the option out"):
        load_embedder(tmp_path / "model.onnx", Path(DEMO))


@pytest.mark.slow
def test_an_export_answers_as_its_checkpoint_and_needs_no_host(
    weights: Path, gallery: Path, query: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("onnxruntime")
    from mgot.retrieval.export import export_onnx

    cfg = load_config(str(weights.parent / "config.yaml"), ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu"])
    export_onnx(cfg, tmp_path / "model.onnx")
    assert search(weights, gallery, query, "--json", "--top", 3) == 0
    expected = results(capsys.readouterr().out)
    blocker = tmp_path / "without_host"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text("import sys; sys.modules['fastreid'] = None\n")
    command = [sys.executable, str(REPO / "tools/search.py"), "--weights", str(tmp_path / "model.onnx"), "--json"]
    command += ["--gallery", str(gallery), "--query", str(query), "--top", "3", "--output", str(tmp_path / "o.jpg")]
    environment = {**os.environ, "PYTHONPATH": f"{blocker}{os.pathsep}{REPO / 'projects/MGOT'}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert [distance for _, distance in results(done.stdout)] == pytest.approx([d for _, d in expected], abs=1e-3)
