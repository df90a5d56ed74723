"""Strided convolutions of narrow maps, which PyTorch gets wrong in bfloat16 on CPUs, compute in float32. [ours]

Where such a convolution gives maps one column wide, PyTorch 2.14 (oneDNN 3.12.0) is wrong in two ways:

- With Intel's AMX every row of the output but the first is computed from the wrong pixels.
- With AMX and without it, a stride above the width makes the weights' gradient read memory that nobody wrote.

Some of these values look sane, some are NaN. In float32 both are right, and maps that small take no time.
tests/sweep_convolutions.py compares other convolutions with float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StridedConv2d(nn.Conv2d):
    """A convolution that leaves a CPU's autocast where its output is one column wide."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rounded = input.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not (rounded and self._gives_one_column(input.shape[-1])):
            return super()._conv_forward(input, weight, bias)
        with torch.autocast("cpu", enabled=False):
            output = super()._conv_forward(input.to(weight.dtype), weight, bias)
        return output.to(torch.get_autocast_dtype("cpu"))

    def _gives_one_column(self, width: int) -> bool:
        padding = 0 if isinstance(self.padding, str) else self.padding[1]  # a stride allows "valid" alone
        return width + 2 * padding - self.dilation[1] * (self.kernel_size[1] - 1) - 1 < self.stride[1]


def compute_narrow_maps_in_float32(network: nn.Module) -> None:
    """Make the strided convolutions of a network :class:`StridedConv2d`, in place. Names and weights stay.

    Only ``nn.Conv2d`` itself is looked at: convolutions called as functions stay as they are.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and module.stride[1] > 1:
            module.__class__ = StridedConv2d
