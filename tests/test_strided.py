"""Strided convolutions come out right on this CPU, and so do their gradients, where PyTorch's own do not."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys

import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from torch import Tensor, nn

from mgot.modeling.precision import cpu_multiplies_bfloat16
from mgot.modeling.strided import StridedConv2d, mend_strided_convolutions
from tests.sweep_convolutions import TOLERANCE, Shape, can_poison, errors, random_shape
from tests.test_modeling import bank, small_config

NARROW = Shape(8, 64, 128, 5, 2, 3, 2, 1, groups=1, channels_last=True)
NARROWER = Shape(8, 64, 128, 5, 1, 3, 2, 1, groups=1, channels_last=True)

bfloat16 = pytest.mark.skipif(not cpu_multiplies_bfloat16(), reason="this CPU has no instructions for bfloat16")
poison = pytest.mark.skipif(not can_poison(), reason="this C library does not fill memory: no mallopt")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.Conv2d(16, 16, 3, 1, 1),
        nn.Conv2d(16, 8, 1, (1, 2), "valid"),
        nn.Conv2d(8, 4, 1, (2, 1)),
    )


def test_only_strided_convolutions_change_and_their_weights_stay() -> None:
    plain = network()
    mended = copy.deepcopy(plain)
    mend_strided_convolutions(mended)
    assert [type(module) for module in mended] == [StridedConv2d, nn.Conv2d, StridedConv2d, StridedConv2d]
    assert [type(module) for module in copy.deepcopy(mended)] == [type(module) for module in mended]
    state = mended.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    x = torch.randn(2, 8, 9, 2)
    with torch.no_grad():
        torch.testing.assert_close(mended(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize("stride", [2, (1, 2), (3, 1)])
@pytest.mark.parametrize("padding", [0, "valid", 1])
def test_few_channels_have_the_gradients_of_the_plain_sum(stride: int | tuple[int, int], padding: int | str) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 8, 1, stride, padding)
    mend_strided_convolutions(convolution)
    x = torch.randn(2, 3, 8, 6, requires_grad=True)
    found, (down, across) = convolution(x), convolution.stride
    edge = 0 if isinstance(padding, str) else padding
    seen = nn.functional.pad(x, (edge, edge, edge, edge))[..., ::down, ::across]
    assert convolution.bias is not None
    expected = torch.einsum("oi,nihw->nohw", convolution.weight[..., 0, 0], seen) + convolution.bias[:, None, None]
    weight = torch.randn_like(found)
    inputs = [x, *convolution.parameters()]
    torch.testing.assert_close(found, expected)
    for mine, plain in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain)


OVERRUN = """
import torch
from mgot.modeling.strided import mend_strided_convolutions
convolution = torch.nn.Conv2d(3, 64, 1, 2)
mend_strided_convolutions(convolution)
x = torch.randn(16, 3, 64, 32).to(memory_format=torch.channels_last)
for _ in range(8):
    convolution(x).square().sum().backward()
"""


def test_few_channels_do_not_kill_the_process() -> None:
    poisoned = {**os.environ, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", OVERRUN], env=poisoned, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("convolution", "widths"),
    [(nn.Conv2d(4, 4, 3, 2, 1), (1, 2)), (nn.Conv2d(4, 4, 3, 2), (3, 4)), (nn.Conv2d(4, 4, 3, 3, 1), (1, 2, 3)),
     (nn.Conv2d(4, 4, 3, 2, 2, dilation=2), (1, 2)), (nn.Conv2d(4, 4, 1, 2, "valid"), (1, 2))],
)  # fmt: skip
def test_float32_is_for_outputs_one_column_wide(convolution: nn.Conv2d, widths: tuple[int, ...]) -> None:
    mend_strided_convolutions(convolution)
    assert isinstance(convolution, StridedConv2d)
    for width in range(max(1, convolution.dilation[1] * 2 + 1 - 2 * int(convolution.padding != "valid")), 7):
        x = torch.randn(1, 4, 5, width)
        try:
            columns = convolution(x).shape[-1]
        except RuntimeError:
            continue
        assert convolution._gives_one_column(width) == (columns == 1) == (width in widths)


@bfloat16
def test_a_narrow_map_is_the_float32_one_rounded_once() -> None:
    mended = network()[0]
    mend_strided_convolutions(mended)
    x = torch.randn(2, 8, 9, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = mended(x)
    assert torch.equal(found, mended(x).bfloat16())


@bfloat16
@poison
@pytest.mark.parametrize("shape", [NARROW, NARROWER], ids=["two columns", "one column"])
def test_narrow_convolutions_come_out_right(shape: Shape) -> None:
    assert max(errors(shape).values()) < TOLERANCE


@bfloat16
@poison
def test_other_convolutions_come_out_right() -> None:
    generator = random.Random(0)
    for _ in range(15):
        shape = random_shape(generator)
        found = errors(shape)
        assert max(found.values()) < TOLERANCE, (shape, found)


def losses_and_gradient(precision: str) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    slim = ("MODEL.BACKBONE.NAME", "build_slim_resnet_backbone", "MODEL.BACKBONE.DEPTH", "10x",
            "MODEL.BACKBONE.FEAT_DIM", 256, "MODEL.BACKBONE.PRETRAIN", False, "INPUT.SIZE_TRAIN", [32, 16])  # fmt: skip
    model = build_model(small_config(*slim, "MGOT.DEN.DROPOUT", 0.0, "MGOT.PRECISION", precision)).train()
    model.heads.bank = bank(256, cross=True)
    images = torch.rand(24, 3, 32, 16, generator=torch.Generator().manual_seed(1)) * 255
    y = torch.arange(24) % 2
    losses = model({"images": images, "is_visible": torch.arange(24) < 16, "targets": y})
    torch.stack(list(losses.values())).sum().backward()
    return losses, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@bfloat16
def test_tiny_images_have_nearly_the_losses_and_gradients_of_float32() -> None:
    (exact, exact_gradient), (rough, rough_gradient) = (losses_and_gradient(name) for name in ("float32", "bfloat16"))
    for name, value in exact.items():
        torch.testing.assert_close(rough[name], value, rtol=0.05, atol=0.05)
    assert float(torch.cosine_similarity(rough_gradient, exact_gradient, dim=0)) > 0.9
