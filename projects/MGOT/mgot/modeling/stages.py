"""Reads the stages of any backbone of fast-reid, and gives each modality its own stem."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mgot.errors import UserError

_RESNET = ("maxpool", "layer1", "layer2", "layer3", "layer4")
# By fast-reid's class: the modules that end its stages, that is the last before the map shrinks. Where a class has
# several forms, the first whose modules all exist.
_CLASS_STAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "ResNet": (_RESNET,),
    "ResNeSt": (_RESNET,),
    "ResNeXt": (("maxpool1", *_RESNET[1:]),),
    "OSNet": (("maxpool", "conv2", "conv3", "conv4", "conv5"),),
    "RepVGG": (("stage0", "stage1", "stage2", "stage3", "stage4"),),
    "RegNet": (("stem", "s1", "s2", "s3", "s4"),),
    "EffNet": (("s1", "s2", "s3", "s5", "s7"),),
    "MobileNetV2": (("features.1", "features.3", "features.6", "features.13", "features.17"),),
    "MobileNetV3": (
        ("features.1", "features.3", "features.6", "features.12", "features.16"),  # Large
        ("features.0", "features.1", "features.3", "features.8", "features.12"),  # Small
    ),
    "ShuffleNetV2": (("maxpool", "features.3", "features.11", "features.15", "conv_last"),),
}
_N_SPREAD = 5


def default_stages(backbone: nn.Module) -> list[str]:
    """Names of the modules that end the backbone's stages.

    For fast-reid's networks, by their class or its base class. For a vision transformer, and any other with ``blocks``
    or ``features``, five of these, evenly spread and with the last one. Otherwise the whole backbone ("").
    """
    names = {name for name, _ in backbone.named_modules()}
    for base in type(backbone).__mro__:
        for stages in _CLASS_STAGES.get(base.__name__, ()):
            if all(name in names for name in stages):
                return list(stages)
    for container in ("blocks", "features"):
        children = getattr(backbone, container, None)
        if isinstance(children, nn.Sequential | nn.ModuleList) and len(children) > 1:
            n = min(_N_SPREAD, len(children))
            picked = sorted({round((i + 1) * len(children) / n) - 1 for i in range(n)})
            return [f"{container}.{i}" for i in picked]
    return [""]


def find_module(backbone: nn.Module, name: str, key: str) -> nn.Module:
    """The submodule called ``name``; if there is none, UserError with the config key and the nearest name."""
    modules = dict(backbone.named_modules())
    if name not in modules:
        near = difflib.get_close_matches(name, list(modules), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(f"{key}: the backbone {type(backbone).__name__} has no module '{name}'{hint}")
    return modules[name]


def pool(output: Tensor) -> Tensor:
    """(B, C) average of a feature map (B, C, H, W) or of tokens (B, L, C), in float32; (B, C) is returned as it is."""
    if output.dim() == 4:
        return output.mean(dim=(2, 3), dtype=torch.float32)
    return output.mean(dim=1, dtype=torch.float32) if output.dim() == 3 else output


class StageTap:
    """Collects the pooled outputs of named modules while the backbone runs within :meth:`reading`.

    Args:
        backbone: any module.
        names: modules to read; empty takes :func:`default_stages`.

    Raises:
        UserError: a name is not a module of the backbone, or a module's output is not a tensor.
    """

    def __init__(self, backbone: nn.Module, names: Sequence[str] = ()) -> None:
        self.names = list(names) or default_stages(backbone)
        self.enabled = False
        self._outputs: dict[str, Tensor] = {}
        for name in self.names:
            _last_part(find_module(backbone, name, "MGOT.DEN.STAGES")).register_forward_hook(self._collect(name))

    def _collect(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if self.enabled:
                if not isinstance(output, Tensor):
                    raise UserError(f"MGOT.DEN.STAGES: '{name}' gives a {type(output).__name__}, not a tensor")
                self._outputs[name] = pool(output)

        return hook

    @contextmanager
    def reading(self) -> Iterator[None]:
        """In this context a run of the backbone is read; at other times its outputs are ignored."""
        self.enabled = True
        try:
            yield
        finally:
            self.enabled = False

    def take(self) -> list[Tensor]:
        """The pooled outputs of the last run, in the order of the names. They are returned once and not kept.

        Raises:
            UserError: the backbone never ran one of the modules.
        """
        outputs, self._outputs = self._outputs, {}
        silent = [name for name in self.names if name not in outputs]
        if silent:
            raise UserError(f"MGOT.DEN.STAGES: the backbone never runs {silent}: name modules that it calls")
        return [outputs[name] for name in self.names]


def _last_part(module: nn.Module) -> nn.Module:
    """The module whose output is the container's: fast-reid runs the blocks of a stage one by one, not the stage."""
    while isinstance(module, nn.Sequential | nn.ModuleList) and len(module):
        module = module[-1]
    return module


class Shape(NamedTuple):
    """What a backbone gives.

    Attributes:
        stage_dims: channels of each tapped stage.
        out_dim: channels of the output.
        ends_in_output: whether the last tapped stage's output is the backbone's.
    """

    stage_dims: list[int]
    out_dim: int
    ends_in_output: bool


@torch.no_grad()
def probe(backbone: nn.Module, tap: StageTap, size: Sequence[int]) -> Shape:
    """The shape of a backbone, read from one image of noise of (height, width)."""
    training = backbone.training
    backbone.eval()
    # Black would do for the channels, but an untrained network makes zeros of it, which all look the same.
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with tap.reading():
        output = pool(backbone(image))
    backbone.train(training)
    stages = tap.take()
    return Shape([stage.shape[1] for stage in stages], output.shape[1], torch.equal(stages[-1], output))


class TwoStream(nn.Module):
    """A module that exists once for each modality: visible rows go through one copy, the others through the second.

    Args:
        module: the module to double; the copies start equal.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.visible = module
        self.infrared = copy.deepcopy(module)
        self.is_visible: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Send the rows of x (B, ...) to the copies by :attr:`is_visible` (B,), which DEN sets before each run.

        None means visible.
        """
        mask = self.is_visible
        if mask is not None and torch.onnx.is_in_onnx_export():  # a traced graph cannot choose by the batch's content
            visible, infrared = self.visible(x), self.infrared(x)
            return torch.where(mask.view(-1, *[1] * (visible.dim() - 1)), visible, infrared)
        if mask is None or bool(mask.all()):
            return self.visible(x)
        if not bool(mask.any()):
            return self.infrared(x)
        # Not by the mask itself: a mask on the CPU would be sent to the GPU in each step, and the step would wait for
        # it.
        rows = [torch.nonzero(part).flatten().to(x.device, non_blocking=True) for part in (mask, ~mask)]
        visible, infrared = self.visible(x[rows[0]]), self.infrared(x[rows[1]])
        out = _empty_like(visible, x.shape[0])
        out[rows[0]], out[rows[1]] = visible, infrared
        return out


def _empty_like(part: Tensor, n_rows: int) -> Tensor:
    """Memory for rows like those of part, in its memory format.

    With another format, a convolution would copy them back.
    """
    last = part.dim() == 4 and part.is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    return torch.empty(n_rows, *part.shape[1:], dtype=part.dtype, device=part.device, memory_format=form)


def split_stem(backbone: nn.Module, names: Sequence[str]) -> list[TwoStream]:
    """Replace the named modules by two-stream ones, in place, and return them; UserError for an unknown name.

    Of a container each part is replaced: fast-reid runs the blocks of a stage one by one.
    """
    streams = []
    for name in names:
        module = find_module(backbone, name, "MGOT.DEN.TWO_STREAM_STEM")
        if isinstance(module, nn.Sequential | nn.ModuleList):
            streams += split_stem(module, [part for part, _ in module.named_children()])
            continue
        parent, _, child = name.rpartition(".")
        streams.append(TwoStream(module))
        setattr(backbone.get_submodule(parent), child, streams[-1])
    return streams
