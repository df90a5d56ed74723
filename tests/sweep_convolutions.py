#!/usr/bin/env python3
"""Compare random bfloat16 convolutions on this CPU with float32, in memory that is NaN until it is written.

Output, gradient of the input and gradient of the weights, of convolutions as networks hold them once
`mgot.modeling.strided` has been over them. Run it before another version of oneDNN may use AMX (`mgot.compat`).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache

import torch
from torch import Tensor, nn

from mgot.modeling.strided import mend_strided_convolutions

M_PERTURB = -6  # mallopt: what malloc gives is filled with the complement of this byte
ALL_ONES = 0x100  # the complement of its lowest byte is 0xFF: bytes of NaN in bfloat16 and float32
TOLERANCE = 0.02  # of a value's own size plus the root mean square: bfloat16 rounds to 0.004
MOST_MULTIPLICATIONS = 2e7
CHANNELS = (1, 3, 8, 16, 24, 32, 40, 48, 64, 96, 116, 128, 256)
SIDES = (1, 2, 3, 4, 5, 8, 9, 16, 32)


@dataclass(frozen=True)
class Shape:
    """A convolution and its input; ``kernel``, ``stride`` and ``padding`` both ways alike."""

    batch: int
    inputs: int
    outputs: int
    height: int
    width: int
    kernel: int
    stride: int
    padding: int
    groups: int
    channels_last: bool

    @property
    def fits(self) -> bool:
        """Whether there is an output, and not too much work."""
        size = self.batch * self.inputs * self.outputs * self.height * self.width * self.kernel**2 / self.groups
        return min(self.height, self.width) + 2 * self.padding >= self.kernel and size < MOST_MULTIPLICATIONS


def random_shape(generator: random.Random) -> Shape:
    """A shape such as networks have them, and smaller ones."""
    while True:
        inputs, outputs, kernel = (generator.choice(values) for values in (CHANNELS, CHANNELS, (1, 3, 3, 5, 7)))
        groups = generator.choice((1, 1, 1, 1, inputs, 8))
        sides = generator.choice(SIDES), generator.choice(SIDES)
        shape = Shape(
            generator.choice((1, 2, 8, 24)), -(-inputs // groups) * groups, -(-outputs // groups) * groups, *sides,
            kernel, generator.choice((1, 2, 2, 3)), generator.choice((0, kernel // 2)), groups,
            generator.random() < 0.8,
        )  # fmt: skip
        if shape.fits:
            return shape


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def can_poison() -> bool:
    """Whether the C library fills memory on demand, and PyTorch gets its memory from there."""
    if not hasattr(_libc(), "mallopt"):
        return False
    with poisoned():
        return bool(torch.empty(100_000).isnan().all())


@contextmanager
def poisoned() -> Iterator[None]:
    """While this holds, memory that PyTorch and oneDNN ask for is NaN."""
    _libc().mallopt(M_PERTURB, ALL_ONES)
    try:
        yield
    finally:
        _libc().mallopt(M_PERTURB, 0)


def results(convolution: nn.Conv2d, x: Tensor, slope: Tensor, rounded: bool) -> tuple[Tensor, ...]:
    """Output and gradients of input and weights, by autocast to bfloat16 or in float32."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    convolution.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
        y = convolution(x)
    y.float().backward(slope)
    assert x.grad is not None and convolution.weight.grad is not None
    return y.detach().float(), x.grad, convolution.weight.grad.clone()


def worst_error(found: Tensor, expected: Tensor) -> float:
    """The largest error, as a share of the value's size plus the root mean square; infinite where NaN."""
    share = (found - expected).abs() / (expected.abs() + expected.square().mean().sqrt() + 1e-30)
    return float(share.nan_to_num(nan=float("inf")).max())


def errors(shape: Shape, *, mended: bool = True) -> dict[str, float]:
    """Worst errors of one convolution; ``mended`` False is PyTorch's own."""
    torch.manual_seed(0)
    layout = torch.channels_last if shape.channels_last else torch.contiguous_format
    network = nn.Sequential(
        nn.Conv2d(shape.inputs, shape.outputs, shape.kernel, shape.stride, shape.padding, 1, shape.groups, bias=False)
    ).to(memory_format=layout)
    if mended:
        mend_strided_convolutions(network)
    convolution = network[0]
    assert isinstance(convolution, nn.Conv2d)
    with torch.no_grad():
        convolution.weight.copy_(convolution.weight.bfloat16())
        x = torch.randn(shape.batch, shape.inputs, shape.height, shape.width).bfloat16().float()
        x = x.contiguous(memory_format=layout)
        slope = torch.randn_like(convolution(x)).bfloat16().float()
    exact = results(convolution, x, slope, rounded=False)
    with poisoned():
        rough = results(convolution, x, slope, rounded=True)
    names = ("output", "gradient of the input", "gradient of the weights")
    return {name: worst_error(*pair) for name, *pair in zip(names, rough, exact, strict=True)}


def main() -> int:
    """Try shapes for a while; each wrong one is a line, the last line counts. Exit code 1 if any was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300, help="how long (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the shapes (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="PyTorch as it is, without mgot.modeling.strided")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator, tried, wrong, worst = random.Random(args.seed), 0, 0, 0.0
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        shape = random_shape(generator)
        found = errors(shape, mended=not args.plain)
        tried += 1
        if max(found.values()) > TOLERANCE:
            wrong += 1
            print(json.dumps({**asdict(shape), **found}), flush=True)
        else:
            worst = max(worst, *found.values())
    print(json.dumps({"tried": tried, "wrong": wrong, "worst of the right ones": worst}))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
