"""The training step against a plain loop, and its losses at their own iterations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import pytest
import torch
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from torch import Tensor, nn

from mgot.engine.schedule.solver import build_fused_optimizer
from mgot.engine.step import TrainingStep
from mgot.engine.watch.guards import StepGuard
from mgot.errors import UserError
from tests.test_modeling import small_config


class TwoTerms(nn.Module):
    """Losses of a linear map; the second term comes from the third step on, as the cross stage's do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.steps = 0

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        out = self.linear(batch)
        self.steps += 1
        return {"loss_a": out.square().mean(), **({"loss_b": out.abs().mean()} if self.steps > 2 else {})}


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, generator=generator) for _ in range(4)]


def training_step(model: nn.Module, data: list[Tensor], limit: int = 0) -> TrainingStep:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    step = TrainingStep(model, optimizer, data, scaled=False, guard=StepGuard(model, limit))
    step.batches = iter(data)
    return step


def plain_losses(model: nn.Module, data: list[Tensor]) -> Iterator[dict[str, float]]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for batch in data:
        losses = model(batch)
        total = cast("Tensor", sum(losses.values()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield {"total_loss": total.item(), **{name: value.item() for name, value in losses.items()}}


def test_losses_are_those_of_a_plain_loop_each_at_its_own_iteration() -> None:
    torch.manual_seed(0)
    model = TwoTerms()
    expected = list(plain_losses(copy.deepcopy(model), batches()))
    step = training_step(model, batches())
    with EventStorage(10) as storage:
        for iteration in range(10, 14):
            step(iteration)
        assert storage.histories() == {}
        storage.iter = 13
        step.write_losses(storage)
        step.write_losses(storage)
        assert storage.iter == 13
        for name in ("total_loss", "loss_a", "loss_b"):
            found = {iteration: value for value, iteration in storage.history(name).values()}
            wanted = {10 + i: row[name] for i, row in enumerate(expected) if name in row}
            assert found == pytest.approx(wanted, rel=1e-6)
        assert len(storage.history("data_time").values()) == 4


def test_a_step_without_a_finite_loss_is_skipped_and_its_losses_are_not_kept() -> None:
    data = batches()
    data[1][0, 0] = float("nan")
    step = training_step(TwoTerms(), data, limit=1)
    before = [p.detach().clone() for p in step.model.parameters()]
    with EventStorage() as storage:
        for iteration in range(3):
            step(iteration)
            assert all(torch.isfinite(p).all() for p in step.model.parameters())
        step.write_losses(storage)
        assert [iteration for _, iteration in storage.history("total_loss").values()] == [0, 2]
        assert storage.latest()["skipped_steps"][0] == 1
    assert not any(torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True))
    step = training_step(TwoTerms(), data[1:])
    with pytest.raises(UserError, match=r"iteration 0: loss_a .*MGOT\.GUARD\.MAX_SKIPPED_STEPS"):
        step(0)


class WithNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss_a": self.norm(batch).square().mean()}


def test_a_skipped_step_leaves_the_running_statistics_of_the_step_before() -> None:
    data, model = batches(), WithNorm()
    data[1][0, 0] = float("nan")
    step = training_step(model, data, limit=1)
    step(0)
    kept = model.norm.get_buffer("running_mean").clone()
    step(1)
    assert kept.any() and torch.equal(model.norm.get_buffer("running_mean"), kept)


def test_the_fused_optimiser_steps_as_fast_reids() -> None:
    cfg = small_config("SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.WEIGHT_DECAY_NORM", 0.001)
    models = [copy.deepcopy(norm_net()) for _ in range(2)]
    theirs, _ = build_optimizer(cfg, models[0], contiguous=False)
    ours, _ = build_fused_optimizer(cfg, models[1])
    assert len(ours.param_groups) < len(theirs.param_groups)
    assert all(group["fused"] for group in ours.param_groups)
    for model, optimizer in zip(models, (theirs, ours), strict=True):
        for batch in batches():
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    for expected, found in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


class WithBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone: nn.Module = nn.Linear(3, 4)
        self.heads, self.discriminator = nn.Linear(4, 2), nn.Linear(4, 1)


def test_the_backbone_learns_at_a_rate_of_its_own() -> None:
    cfg = small_config("SOLVER.BASE_LR", 0.1, "SOLVER.HEADS_LR_FACTOR", 3.0, "SOLVER.BIAS_LR_FACTOR", 2.0)
    model = WithBackbone()
    optimizer, _ = build_fused_optimizer(cfg, model)
    names = {id(value): name for name, value in model.named_parameters()}
    found = {names[id(value)]: group["lr"] for group in optimizer.param_groups for value in group["params"]}
    assert found == pytest.approx({
        "backbone.weight": 0.01, "backbone.bias": 0.02, "heads.weight": 0.3, "heads.bias": 0.6,
        "discriminator.weight": 0.1, "discriminator.bias": 0.2,
    })  # fmt: skip
    same = small_config("MGOT.DEN.BACKBONE_LR_FACTOR", 1.0)
    same.SOLVER.WEIGHT_DECAY_BIAS = same.SOLVER.WEIGHT_DECAY
    assert len(build_fused_optimizer(same, model)[0].param_groups) == 1


def norm_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
