"""Parts of the backbone that the backward pass computes again: the same step to the bit, in less memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from torch import Tensor, nn

from mgot.engine.config.keys import same_intra_stage
from mgot.engine.config.rules import check_config
from mgot.errors import UserError
from mgot.modeling.recompute import buffers_set_aside, recompute
from tests.test_modeling import bank, batch, small_config

LAYERS = ["layer1", "layer2", "layer3", "layer4"]
STEM = "conv1+bn1+relu+maxpool"
SETUPS: dict[str, tuple[object, ...]] = {
    "plain": (),
    "stems": ("MGOT.DEN.TWO_STREAM_STEM", ["conv1", "bn1"]),
    "ibn": ("MODEL.BACKBONE.WITH_IBN", True),
    "tap within a part": ("MGOT.DEN.STAGES", ["layer1.0.conv2", "layer4"]),
    "ghost": ("MODEL.BACKBONE.NORM", "GhostBN"),
}


class Step(NamedTuple):
    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    random: Tensor


def one_step(parts: list[str], options: tuple[object, ...] = (), precision: torch.dtype = torch.float32) -> Step:
    torch.manual_seed(0)
    model = build_model(small_config("MGOT.RECOMPUTE", parts, *options)).train()
    model.precision = precision
    model.heads.bank = bank(512, cross=True)
    torch.manual_seed(1)
    losses = model(batch())
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return Step(losses, gradients, dict(model.named_buffers()), torch.get_rng_state())


def assert_the_same(one: Step, other: Step) -> None:
    for mine, others in zip(one[:3], other[:3], strict=True):
        assert mine.keys() == others.keys()
        assert [name for name in mine if not torch.equal(mine[name], others[name])] == []
    assert torch.equal(one.random, other.random)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("setup", SETUPS)
def test_the_step_is_the_plain_one_to_the_bit(setup: str, precision: torch.dtype) -> None:
    plain = one_step([], SETUPS[setup], precision)
    assert len(plain.gradients) > 60 and any("running_mean" in name for name in plain.buffers)
    assert_the_same(one_step([STEM, *LAYERS], SETUPS[setup], precision), plain)


class Noisy(nn.Module):
    """A block with dropout, a norm and a counter, which has more to lose than a ResNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.dropout = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1)
        return self.dropout(torch.relu(self.norm(self.conv(x))))


@pytest.mark.parametrize("parts", [["0"], ["0+1"], ["0", "1+2"]])
def test_dropout_is_drawn_once_and_statistics_move_once(parts: list[str]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(Noisy(), Noisy(), Noisy())
    again = copy.deepcopy(plain)
    recompute(again, parts, (8, 8))
    for net in (plain, again):
        net.zero_grad()
        torch.manual_seed(2)
        net(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), again.state_dict().values(), strict=True))
    for a, b in zip(plain.parameters(), again.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)


def saved_bytes(net: nn.Module, x: Tensor) -> int:
    """Bytes kept for the backward pass but for the parameters."""
    own = {p.data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = net(x)
    assert output.requires_grad
    return sum(size for pointer, size in kept.items() if pointer not in own)


def test_less_is_kept_and_only_while_training() -> None:
    backbone = build_model(small_config()).backbone.train()
    x = torch.rand(2, 3, 64, 32)
    whole = saved_bytes(backbone, x)
    recompute(backbone, [STEM, *LAYERS], (64, 32))
    assert saved_bytes(backbone, x) < 0.5 * whole
    backbone.eval()
    assert saved_bytes(backbone, x) > 0.5 * whole


def test_a_copy_computes_with_its_own_weights() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    recompute_on_rows(net, ["0+1"])
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert not torch.equal(net(torch.ones(2, 3)), twin(torch.ones(2, 3)))
    assert torch.equal(twin(torch.ones(2, 3)), torch.zeros(2, 3))


class OnRows(nn.Module):
    """A network of vectors behind one of images, which is what parts are tried on."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.net(x.mean(dim=(2, 3)))
        return output


def recompute_on_rows(net: nn.Sequential, parts: list[str]) -> None:
    recompute(OnRows(net), ["+".join(f"net.{each}" for each in part.split("+")) for part in parts], (4, 4))


def test_buffers_come_back_as_they_were_after_an_error() -> None:
    norm = nn.BatchNorm1d(2)
    mean = norm.get_buffer("running_mean")
    with pytest.raises(RuntimeError, match="stop"), buffers_set_aside([norm]):
        norm(torch.randn(4, 2))
        raise RuntimeError("stop")
    assert norm.running_mean is mean and torch.equal(mean, torch.zeros(2))
    assert int(norm.get_buffer("num_batches_tracked")) == 0


class Odd(nn.Module):
    """A backbone that treats its modules as parts cannot bear."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.two, self.never = nn.Conv2d(3, 3, 1), nn.Bilinear(3, 3, 3), nn.Conv2d(3, 3, 1)
        self.first, self.last, self.inplace = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x)).transpose(1, 3)
        x = self.two(x.contiguous(), x.contiguous()).transpose(1, 3)
        output: Tensor = self.last(self.first(x) + 1)
        return self.inplace(output - 0.5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["layer9"], "has no module 'layer9'"),
        (["twice"], "'twice' runs more than once"),
        (["two"], "'two' takes more than one tensor"),
        (["never"], "the backbone never runs 'never'"),
        (["first+last"], "'last' does not run right after 'first'"),
        (["inplace"], "'inplace' changes its input in place: join it"),
        (["first", "first"], "'first' is named twice"),
    ],
)
def test_parts_that_cannot_be_recomputed_are_refused(parts: list[str], message: str) -> None:
    torch.manual_seed(0)
    backbone = Odd()
    with pytest.raises(UserError, match=r"MGOT\.RECOMPUTE") as told:
        recompute(backbone, parts, (4, 4))
    assert message in str(told.value)
    assert not any("forward" in module.__dict__ for module in backbone.modules())


def test_a_stage_that_the_adversary_reads_ends_its_part() -> None:
    with pytest.raises(UserError, match=r"'bn1' feeds the adversary \(MGOT\.DEN\.STAGES\)"):
        build_model(small_config("MGOT.RECOMPUTE", [STEM], "MGOT.DEN.STAGES", ["bn1", "layer4"]))
    build_model(small_config("MGOT.RECOMPUTE", [STEM], "MGOT.DEN.STAGES", ["bn1"], "MGOT.LOSS.W_ADV", 0.0))


def test_compiling_and_recomputing_exclude_each_other() -> None:
    cfg = small_config("MGOT.RECOMPUTE", ["layer1"], "MGOT.COMPILE", True)
    with pytest.raises(UserError, match=r"MGOT\.COMPILE must be False if MGOT\.RECOMPUTE names parts"):
        check_config(cfg)


def test_an_intra_stage_is_shared_whatever_is_recomputed() -> None:
    assert same_intra_stage("MGOT.RECOMPUTE")


@pytest.fixture
def gradients_of_scaled() -> Iterator[Any]:
    yield torch.amp.GradScaler("cpu", enabled=True, init_scale=1024.0)


def test_scaled_gradients_come_through(gradients_of_scaled: Any) -> None:
    def scaled(parts: list[str]) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        recompute(net, parts, (4, 4))
        with torch.autocast("cpu", torch.bfloat16):
            output = net(torch.ones(2, 3, 4, 4) + torch.arange(4.0))
        gradients_of_scaled.scale(output.float().square().sum()).backward()
        return [p.grad for p in net.parameters() if p.grad is not None]

    for mine, plain in zip(scaled(["0+1"]), scaled([]), strict=True):
        assert torch.equal(mine, plain)
