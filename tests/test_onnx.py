"""The ONNX file: what it says of itself, that it is PyTorch's model, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from tools.export_onnx import main

from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.retrieval import export
from mgot.retrieval.export import export_onnx
from mgot.retrieval.onnx_model import METADATA_KEY, ModelFacts, OnnxEmbedder

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
BASE = ["MODEL.BACKBONE.PRETRAIN", "False", "INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]"]
TWO_STREAM = ["MGOT.DEN.TWO_STREAM_STEM", "['conv1', 'bn1']"]


def config_with_weights(folder: Path, *options: str) -> CfgNode:
    """demo.yml at a small size with a checkpoint of random weights, streams of a two-stream stem told apart."""
    torch.manual_seed(0)
    model = build_model(load_config(DEMO, [*BASE, *options]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".infrared." in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.heads.bottleneck.running_var.mul_(3)  # so that the neck does something
    torch.save({"model": model.state_dict()}, folder / "weights.pth")
    return load_config(DEMO, [*BASE, *options, "MODEL.WEIGHTS", str(folder / "weights.pth")])


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 3, 64, 32), dtype=np.uint8)


def test_features_are_those_that_the_evaluation_scores(tmp_path: Path) -> None:
    cfg = config_with_weights(tmp_path)
    facts = export_onnx(cfg, tmp_path / "model.onnx")
    embedder = OnnxEmbedder(tmp_path / "model.onnx")
    assert embedder.facts == facts
    assert facts == ModelFacts((64, 32), 256, 17, True, False, "build_slim_resnet_backbone 10x", "weights.pth")
    model = build_model(cfg).eval()
    model.precision = torch.float32  # demo.yml's is bfloat16
    model.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True)["model"])
    for n in (1, 3, 8):
        x = torch.from_numpy(images(n))
        with torch.no_grad():
            expected = F.normalize((model(x) + model(x.flip(3))) / 2, dim=1)
        found = embedder.embed(images(n))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
        np.testing.assert_allclose(embedder.embed(images(n).astype(np.float64)), found, atol=1e-6)
    assert embedder.embed(images(0)).shape == (0, 256)
    assert not list(tmp_path.glob("*.tmp"))


def test_metadata_and_opset_are_in_the_file(tmp_path: Path) -> None:
    export_onnx(config_with_weights(tmp_path, "TEST.FLIP.ENABLED", "False"), tmp_path / "new/model.onnx", opset=13)
    model = onnx.load(tmp_path / "new/model.onnx")
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [13]
    (told,) = [ModelFacts.from_json(p.value) for p in model.metadata_props if p.key == METADATA_KEY]
    assert (told.opset, told.flip, told.input_size, told.pixels) == (
        13,
        False,
        (64, 32),
        "RGB, float32, 0..255, (B, 3, H, W)",
    )
    shape = model.graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_param == "batch" and [d.dim_value for d in shape.dim[1:]] == [3, 64, 32]


def test_two_stream_stem_is_told_the_modality(tmp_path: Path) -> None:
    export_onnx(config_with_weights(tmp_path, *TWO_STREAM), tmp_path / "model.onnx")
    embedder = OnnxEmbedder(tmp_path / "model.onnx")
    with pytest.raises(UserError, match="is_visible"):
        embedder.embed(images(2))
    visible, infrared = (embedder.embed(images(2), np.array([known] * 2)) for known in (True, False))
    mixed = embedder.embed(images(2), np.array([False, True]))
    np.testing.assert_allclose(mixed, np.stack([infrared[0], visible[1]]), atol=1e-6)
    assert np.abs(visible - infrared).max() > 1e-3


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = OnnxEmbedder.embed
    monkeypatch.setattr(OnnxEmbedder, "embed", lambda self, *inputs: embed(self, *inputs) + 2e-4)
    with pytest.raises(UserError, match=r"differ from PyTorch's by 2\.0e-04"):
        export_onnx(config_with_weights(tmp_path), tmp_path / "model.onnx")
    assert not list(tmp_path.glob("model.onnx*"))


def test_what_is_no_model_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.onnx: no such file"):
        OnnxEmbedder(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"bad\.onnx: not a readable ONNX model"):
        OnnxEmbedder(tmp_path / "bad.onnx")
    cfg = config_with_weights(tmp_path)
    export_onnx(cfg, tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"shape \(B, 3, 64, 32\), not \(2, 3, 32, 64\)"):
        OnnxEmbedder(tmp_path / "model.onnx").embed(images(2).transpose(0, 1, 3, 2))
    model = onnx.load(tmp_path / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match=r"foreign\.onnx: .*not one that tools/export_onnx\.py made"):
        OnnxEmbedder(tmp_path / "foreign.onnx")
    for opset in (10, 21):
        with pytest.raises(UserError, match="--opset must be 11 to 20"):
            export_onnx(cfg, tmp_path / "model.onnx", opset=opset)


def test_missing_extra_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx: type `pip install 'mgot\[onnx\]'`"):
        export_onnx(load_config(DEMO, BASE), tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime: type `pip install 'mgot\[onnx\]'`"):
        OnnxEmbedder(tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("yaml", "depth"), [("ShuffleNetV2", "0.5x"), ("ViT", "small"), ("RegNet", "200x")])
def test_networks_that_are_no_resnet(yaml: str, depth: str, tmp_path: Path) -> None:
    width = {"RegNet": ["MODEL.BACKBONE.FEAT_DIM", "368"]}.get(yaml, [])
    options = [*BASE, "MODEL.BACKBONE.DEPTH", depth, *width, "MODEL.WEIGHTS", str(tmp_path / "weights.pth")]
    cfg = load_config(DEMO, [str(REPO / f"configs/Backbone-{yaml}.yml"), *options])
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "weights.pth")
    export_onnx(cfg, tmp_path / "model.onnx")
    features = OnnxEmbedder(tmp_path / "model.onnx").embed(images(3))
    assert features.shape == (3, cfg.MODEL.BACKBONE.FEAT_DIM)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("weights", "status"), [("weights.pth", 0), ("none.pth", 2)])
def test_command(weights: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = config_with_weights(tmp_path)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    files = {"config-file": "config.yaml", "weights": weights, "output": "model.onnx"}
    arguments = [part for name, file in files.items() for part in (f"--{name}", str(tmp_path / file))]
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert (tmp_path / "model.onnx").exists() == (status == 0)
    if status:
        assert "none.pth: no such file" in err
    else:
        assert out.strip().endswith("images (B, 3, 64, 32) to features (B, 256), opset 17")
