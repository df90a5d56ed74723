"""Builds fast-reid's backbones: fixes its mistakes, names a user's mistakes, and loads weights from three sources.

Cited lines are of the wheel ``fastreid==1.4.0``, folder ``fastreid/modeling/backbones``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastreid
from fastreid.config import CfgNode
from fastreid.modeling.backbones.build import BACKBONE_REGISTRY
from fastreid.modeling.backbones.regnet import effnet, regnet
from fastreid.modeling.backbones.regnet.config import cfg as regnet_defaults
from fastreid.modeling.backbones.shufflenet import ShuffleV2Block
from torch import Tensor, nn

from mgot.compat import INSTALL_HOST
from mgot.errors import UserError, reason
from mgot.modeling.backbones import BLOCKS_PER_STAGE
from mgot.modeling.weights import load_backbone_weights, load_package_weights, load_torchvision_weights

WEIGHTS_SOURCES = ("host", "torchvision", "package")
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")
# What each of fast-reid's backbones takes for MODEL.BACKBONE.DEPTH.
DEPTHS: dict[str, tuple[str, ...]] = {
    "build_resnet_backbone": ("18x", "34x", "50x", "101x"),
    "build_resnext_backbone": ("50x", "101x"),  # its 152x lacks a table that fast-reid looks into (resnext.py:298)
    "build_resnest_backbone": ("50x", "101x", "200x", "269x"),
    "build_osnet_backbone": ("x0_25", "x0_5", "x0_75", "x1_0"),
    "build_mobilenetv2_backbone": ("0.1x", "0.25x", "0.35x", "0.5x", "0.75x", "1.0x"),
    "build_mobilenetv3_backbone": ("Large", "Small"),
    "build_shufflenetv2_backbone": ("0.5x", "1.0x", "1.5x", "2.0x"),
    "build_effnet_backbone": ("b0", "b1", "b2", "b3", "b4", "b5"),
    "build_regnet_backbone": tuple(f"{n}{kind}" for n in (200, 400, 800, 1600, 3200, 4000, 6400) for kind in "xy"),
    "build_repvgg_backbone": (
        "A0", "A1", "A2", "B0", "B1", "B1g2", "B1g4", "B2", "B2g2", "B2g4", "B3", "B3g2", "B3g4",
    ),
    "build_vit_backbone": ("small", "base"),
    "build_slim_resnet_backbone": tuple(BLOCKS_PER_STAGE),
}  # fmt: skip
_HOST_PARENT = Path(fastreid.__file__).parent.parent
_BY_HAND = "download it yourself and name it with MODEL.BACKBONE.PRETRAIN_PATH"


class _Architectures(CfgNode):
    """fast-reid's tables for RegNet and EfficientNet, read from any working folder and from a clean state.

    fast-reid names its YAML files relative to the working folder (regnet/regnet.py:551, regnet/effnet.py:244), so they
    are found only in its checkout. It also merges each into the values of the last one (regnet/regnet.py:568), so a
    RegNetX built after a RegNetY would have its squeeze-and-excitation.
    """

    def merge_from_file(self, cfg_filename: str) -> None:
        self.merge_from_other_cfg(regnet_defaults)
        self.merge_from_other_cfg(CfgNode(CfgNode.load_yaml_with_base(str(_HOST_PARENT / cfg_filename))))


def _channel_shuffle(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The even and the odd channels of x (B, C, H, W).

    fast-reid reads the batch's size from ``x.data`` (shufflenet.py:76), and a traced ONNX graph would keep that as a
    fixed number.
    """
    return x[:, 0::2], x[:, 1::2]


ShuffleV2Block.channel_shuffle = _channel_shuffle
regnet.regnet_cfg = effnet.effnet_cfg = _Architectures(regnet_defaults.clone())


def backbone_names() -> tuple[str, ...]:
    """Every backbone that is registered with fast-reid, from outside too."""
    return tuple(sorted(BACKBONE_REGISTRY._obj_map))


def build_backbone(cfg: CfgNode) -> nn.Module:
    """The backbone of MODEL.BACKBONE, with its weights if PRETRAIN is on.

    PRETRAIN_PATH names a file. Without it, MGOT.WEIGHTS_SOURCE says where ImageNet weights come from. Source: [ours].

    Raises:
        UserError: no such backbone or depth, an image size that it cannot take, or weights that cannot be downloaded or
            read, or belong to another network.
    """
    keys = cfg.MODEL.BACKBONE
    _check_sizes(cfg)
    backbone = _build(cfg, pretrain=False)
    if keys.PRETRAIN and keys.PRETRAIN_PATH:
        load_backbone_weights(backbone, keys.PRETRAIN_PATH)
    elif keys.PRETRAIN and cfg.MGOT.WEIGHTS_SOURCE == "torchvision":
        _load_from_torchvision(backbone, keys)
    elif keys.PRETRAIN and cfg.MGOT.WEIGHTS_SOURCE == "package":
        _load_from_package(backbone, keys)
    elif keys.PRETRAIN:
        return _build_with_hosts_weights(cfg)
    return backbone


def _load_from_torchvision(backbone: nn.Module, keys: CfgNode) -> None:
    if keys.NAME != "build_resnet_backbone" or keys.WITH_IBN or keys.WITH_SE:
        raise UserError("MGOT.WEIGHTS_SOURCE: torchvision's are for build_resnet_backbone, WITH_IBN and WITH_SE off")
    load_torchvision_weights(backbone, keys.DEPTH)


def _load_from_package(backbone: nn.Module, keys: CfgNode) -> None:
    if keys.NAME != "build_mobilenetv2_backbone" or keys.DEPTH != "1.0x":
        raise UserError("MGOT.WEIGHTS_SOURCE: the package's are for build_mobilenetv2_backbone, DEPTH 1.0x")
    load_package_weights(backbone)


def _check_sizes(cfg: CfgNode) -> None:
    if cfg.MODEL.BACKBONE.NAME == "build_vit_backbone" and list(cfg.INPUT.SIZE_TEST) != list(cfg.INPUT.SIZE_TRAIN):
        raise UserError(
            f"INPUT.SIZE_TEST {cfg.INPUT.SIZE_TEST} must be INPUT.SIZE_TRAIN {cfg.INPUT.SIZE_TRAIN}:"
            " a vision transformer has a position for each patch"
        )


def _build(cfg: CfgNode, *, pretrain: bool) -> nn.Module:
    keys = cfg.MODEL.BACKBONE
    if keys.NAME not in backbone_names():
        raise UserError(f"MODEL.BACKBONE.NAME: {keys.NAME!r} is not one of {backbone_names()}")
    asked = cfg.clone()
    asked.defrost()
    asked.MODEL.BACKBONE.PRETRAIN = pretrain
    try:
        model: nn.Module = BACKBONE_REGISTRY.get(keys.NAME)(asked)
    except (KeyError, NotImplementedError, ValueError) as error:
        if isinstance(error, UserError) or pretrain:
            raise
        raise UserError(f"MODEL.BACKBONE.DEPTH: {keys.NAME} has no {keys.DEPTH!r}; see configs/Backbone-*") from None
    except FileNotFoundError as error:
        if pretrain:
            raise
        raise UserError(f"{error.filename} is missing in fast-reid: type `{INSTALL_HOST}`") from None
    return model


def _build_with_hosts_weights(cfg: CfgNode) -> nn.Module:
    """Let fast-reid download the weights that it knows. It keeps them in torch's folder and downloads no file twice."""
    keys = cfg.MODEL.BACKBONE
    urls = vars(sys.modules[BACKBONE_REGISTRY.get(keys.NAME).__module__]).get("model_urls", {})
    try:
        with _checked_downloads():
            return _build(cfg, pretrain=True)
    except UserError:
        raise
    except KeyError:
        raise UserError(_no_weights(keys)) from None
    except Exception as error:  # whatever a network, a broken file or another network's weights may raise
        if not urls:
            raise UserError(_no_weights(keys)) from None
        of_depth = [url for key, url in urls.items() if key.endswith((keys.DEPTH, keys.DEPTH.rstrip("x")))]
        raise UserError(
            f"MODEL.BACKBONE.PRETRAIN: fast-reid's {keys.NAME} {keys.DEPTH} weights cannot be loaded ({reason(error)}):"
            f" {_BY_HAND} (fast-reid looks for {' or '.join(of_depth)})"
        ) from None


def _no_weights(keys: CfgNode) -> str:
    return (
        f"MODEL.BACKBONE.PRETRAIN: fast-reid offers no weights for {keys.NAME} {keys.DEPTH}:"
        " name a file with MODEL.BACKBONE.PRETRAIN_PATH, or set PRETRAIN to False"
    )


@contextmanager
def _checked_downloads() -> Iterator[None]:
    """In this context gdown's failures name the file, and if a file's name contains a hash, the file must have it.

    fast-reid calls ``gdown.download`` and checks neither (resnet.py:283).
    """
    import gdown

    original = gdown.download

    def download(url: str, output: str, **options: Any) -> None:
        try:
            original(url, output, **options)
        except Exception as error:  # gdown's own, requests' and the system's
            raise UserError(
                f"MODEL.BACKBONE.PRETRAIN: {url} cannot be downloaded ({reason(error)}): {_BY_HAND}"
            ) from None
        check_hash(Path(output), url)

    gdown.download = download  # type: ignore[assignment]
    try:
        yield
    finally:
        gdown.download = original


def check_hash(path: Path, url: str) -> None:
    """Remove a downloaded file if its hash is not that of its name, ``<name>-<start of its SHA-256>.<suffix>``.

    Raises:
        UserError: there is no such file, or its hash is another.
    """
    if not path.is_file():
        raise UserError(f"MODEL.BACKBONE.PRETRAIN: {url} gave no file: {_BY_HAND}")
    named = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if named and not sha256(path.read_bytes()).hexdigest().startswith(named[1]):
        path.unlink()
        raise UserError(
            f"MODEL.BACKBONE.PRETRAIN: {url} is damaged after the download, its hash is not {named[1]}: try again"
        )
