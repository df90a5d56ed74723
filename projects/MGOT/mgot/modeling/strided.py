"""Strided convolutions that PyTorch gets wrong on CPUs, computed in another way. [ours]

PyTorch 2.14 (oneDNN 3.12.0) has three faults:

- A 1x1 convolution of fewer channels than a vector register holds (8 with AVX2, 16 with AVX-512) writes past its
  buffer when it computes the weights' gradient. The process is killed. RepVGG begins with such a convolution.
- Where the output is one column wide, Intel's AMX computes every row but the first from the wrong pixels in bfloat16.
- There, a stride above the width makes the weights' gradient read memory that nobody wrote: bfloat16 on any CPU.

The remedies: take every n-th pixel first, then convolve without a stride, which is the same sum; and compute maps that
are one column wide in float32. tests/sweep_convolutions.py compares other convolutions with float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

VECTOR = 16  # float32 numbers in the widest vector register of x86


class StridedConv2d(nn.Conv2d):
    """A convolution that avoids the three faults. On a GPU it is ``nn.Conv2d`` itself."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rounded = input.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not (rounded and self._gives_one_column(input.shape[-1])):
            return self._convolve(input, weight, bias)
        with torch.autocast("cpu", enabled=False):
            output = self._convolve(input.to(weight.dtype), weight, bias)
        return output.to(torch.get_autocast_dtype("cpu"))

    def _convolve(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (input.device.type == "cpu" and torch.is_grad_enabled() and self._overruns_its_buffer):
            return super()._conv_forward(input, weight, bias)
        down, across = self.stride
        return conv2d(input[..., ::down, ::across], weight, bias, groups=self.groups)

    @property
    def _overruns_its_buffer(self) -> bool:
        """Whether it is a 1x1 convolution of few channels. A padded one takes another way through oneDNN."""
        return self.kernel_size == (1, 1) and self.padding in ("valid", (0, 0)) and self.in_channels < VECTOR

    def _gives_one_column(self, width: int) -> bool:
        padding = 0 if isinstance(self.padding, str) else self.padding[1]  # a stride allows "valid" alone
        return width + 2 * padding - self.dilation[1] * (self.kernel_size[1] - 1) - 1 < self.stride[1]


def mend_strided_convolutions(network: nn.Module) -> None:
    """Make the strided convolutions of a network :class:`StridedConv2d`, in place. Names and weights stay.

    Only ``nn.Conv2d`` itself is looked at: convolutions called as functions stay as they are.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and max(module.stride) > 1:
            module.__class__ = StridedConv2d
