"""Each stage's optimiser and schedule against plain ones built anew."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fastreid.config import CfgNode
from fastreid.solver import build_lr_scheduler
from fastreid.utils.events import EventStorage
from torch import nn

from mgot.engine.schedule.solver import StageHook, begin_stage, build_fused_optimizer, log_rate_of, stages
from mgot.engine.setup import check_config
from mgot.engine.trainer import MGOTTrainer
from mgot.errors import UserError
from tests.test_modeling import small_config
from tests.test_step import WithBackbone

BASE = 0.01
ITERS = 2
COMMON = ("SOLVER.MAX_EPOCH", 7, "MGOT.CROSS_START_EPOCH", 3, "MGOT.ITERS_PER_EPOCH", ITERS, "SOLVER.BASE_LR", BASE,
          "SOLVER.STEPS", [2], "SOLVER.WARMUP_ITERS", 0, "SOLVER.DELAY_EPOCHS", 0)  # fmt: skip


def config(*options: object) -> CfgNode:
    return small_config(*COMMON, *options)


def rates(cfg: CfgNode) -> list[float]:
    """The learning rate of each epoch's last step, under fast-reid's hook and ours."""
    from fastreid.engine.hooks import LRScheduler  # importable once mgot has readied fast-reid

    first = stages(cfg)[0].cfg
    optimizer, _ = build_fused_optimizer(first, nn.Linear(3, 2))
    schedulers = build_lr_scheduler(first, optimizer, ITERS)
    theirs, ours = LRScheduler(optimizer, schedulers), StageHook(stages(cfg), optimizer)
    with EventStorage() as storage:
        trainer: Any = SimpleNamespace(
            optimizer=optimizer, scheduler=schedulers, grad_scaler=None, storage=storage, iter=0, epoch=0,
            warmup_iters=cfg.SOLVER.WARMUP_ITERS, delay_epochs=cfg.SOLVER.DELAY_EPOCHS,
        )  # fmt: skip
        theirs.trainer = ours.trainer = trainer
        seen = []
        for trainer.epoch in range(cfg.SOLVER.MAX_EPOCH):
            ours.before_epoch()
            for _ in range(ITERS):
                optimizer.step()
                theirs.after_step()
                trainer.iter += 1
            seen.append(storage.latest()["lr"][0])
            theirs.after_epoch()
    return seen


def cosine(length: int) -> list[float]:
    """The closed form of cosine annealing, epoch by epoch."""
    turns = torch.arange(length) / length * torch.pi
    return (1e-7 + (BASE - 1e-7) * (1 + torch.cos(turns)) / 2).tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [1, 1, 0.1, 1, 1, 0.1, 0.1]),
        (("MGOT.CROSS_STAGE.STEPS", [1, 3]), [1, 1, 0.1, 1, 0.1, 0.1, 0.01]),
        (("MGOT.CROSS_STAGE.BASE_LR", 0.02), [1, 1, 0.1, 2, 2, 0.2, 0.2]),
        (("MGOT.CROSS_STAGE.OWN_OPTIMIZER", False, "MGOT.CROSS_STAGE.STEPS", [1]), [1, 1, *[0.1] * 5]),
        (("MGOT.MODE", "intra_only"), [1, 1, *[0.1] * 5]),
        (("MGOT.CROSS_START_EPOCH", 0, "MGOT.CROSS_STAGE.BASE_LR", 0.02), [2, 2, *[0.2] * 5]),
        (("SOLVER.DELAY_EPOCHS", 3), [1, 1, 1, 1, 1, 0.1, 0.1]),
        # Warm-up comes once: its second step is the last of the first epoch.
        (("SOLVER.WARMUP_ITERS", 2, "SOLVER.WARMUP_FACTOR", 0.5), [0.75, 1, 0.1, 1, 1, 0.1, 0.1]),
    ],
)
def test_decay_is_counted_from_each_stages_start(options: tuple[object, ...], expected: list[float]) -> None:
    assert rates(config(*options)) == pytest.approx([BASE * factor for factor in expected])


def test_cosine_annealing_spans_each_stage() -> None:
    assert rates(config("SOLVER.SCHED", "CosineAnnealingLR")) == pytest.approx(cosine(3) + cosine(4))
    one = config("SOLVER.SCHED", "CosineAnnealingLR", "MGOT.CROSS_STAGE.OWN_OPTIMIZER", False)
    assert rates(one) == pytest.approx(cosine(7))


def test_a_first_stage_that_is_all_warm_up_divides_by_no_zero() -> None:
    cfg = config("SOLVER.SCHED", "CosineAnnealingLR", "MGOT.CROSS_START_EPOCH", 1, "SOLVER.WARMUP_ITERS", ITERS)
    assert rates(cfg)[1:] == pytest.approx(cosine(6))


def test_the_second_stage_steps_as_a_new_optimiser_would() -> None:
    cfg = config("SOLVER.BIAS_LR_FACTOR", 2.0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer, _ = build_fused_optimizer(cfg, model)
    schedulers = build_lr_scheduler(cfg, optimizer, ITERS)
    started = [group["lr"] for group in optimizer.param_groups]

    def step(net: nn.Module, by: torch.optim.Optimizer) -> None:
        by.zero_grad()
        net(torch.ones(2, 3)).square().mean().backward()
        by.step()

    for _ in range(4):
        step(model, optimizer)
        schedulers["lr_sched"].step()
    assert optimizer.state
    begin_stage(cfg, optimizer, schedulers, started)
    assert not optimizer.state
    fresh = copy.deepcopy(model)
    anew, _ = build_fused_optimizer(cfg, fresh)
    again = build_lr_scheduler(cfg, anew, ITERS)
    for _ in range(4):
        step(model, optimizer)
        step(fresh, anew)
        schedulers["lr_sched"].step()
        again["lr_sched"].step()
        assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in anew.param_groups]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))
    assert schedulers["lr_sched"].state_dict() == again["lr_sched"].state_dict()


def test_the_backbones_share_survives_decay_and_change_of_stage_and_the_log_tells_the_other_rate() -> None:
    from fastreid.engine.hooks import LRScheduler

    cfg = config("MGOT.CROSS_STAGE.BASE_LR", 0.02, "SOLVER.STEPS", [1])
    model = WithBackbone()
    model.backbone = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4))  # the largest group
    optimizer, _ = build_fused_optimizer(cfg, model)
    schedulers = build_lr_scheduler(cfg, optimizer, ITERS)
    hook, theirs = StageHook(stages(cfg), optimizer), LRScheduler(optimizer, schedulers)
    log_rate_of(theirs, optimizer, BASE)
    backbone = {id(value) for value in model.backbone.parameters()}
    logged = optimizer.param_groups[theirs._best_param_group_id]

    def seen() -> tuple[float, float, float]:
        of_backbone = {g["lr"] for g in optimizer.param_groups if id(g["params"][0]) in backbone}
        others = {g["lr"] for g in optimizer.param_groups if id(g["params"][0]) not in backbone}
        assert len(of_backbone) == len(others) == 1
        return of_backbone.pop(), others.pop(), logged["lr"]

    hook.trainer = SimpleNamespace(epoch=3, optimizer=optimizer, scheduler=schedulers)
    assert seen() == pytest.approx((0.1 * BASE, BASE, BASE))
    optimizer.step()
    schedulers["lr_sched"].step()
    assert seen() == pytest.approx((0.01 * BASE, 0.1 * BASE, 0.1 * BASE))
    hook.before_epoch()
    assert seen() == pytest.approx((0.2 * BASE, 2 * BASE, 2 * BASE))
    schedulers["lr_sched"].step()
    assert seen() == pytest.approx((0.02 * BASE, 0.2 * BASE, 0.2 * BASE))


@pytest.mark.parametrize("key", ["SOLVER.WARMUP_ITERS", "SOLVER.DELAY_EPOCHS"])
def test_warm_up_longer_than_the_first_stage_is_refused(key: str) -> None:
    cfg = config(key, 7)
    with pytest.raises(UserError, match=rf"{key} lasts \d epochs, longer than .* 3: .*OWN_OPTIMIZER False"):
        check_config(cfg)
    assert len(stages(config(key, 7, "MGOT.CROSS_STAGE.OWN_OPTIMIZER", False))) == 1


def test_the_trainer_builds_the_first_stages_optimiser_and_schedule() -> None:
    cfg = config("SOLVER.SCHED", "CosineAnnealingLR", "SOLVER.WARMUP_ITERS", 2 * ITERS)
    optimizer, _ = MGOTTrainer.build_optimizer(cfg, nn.Linear(3, 2))
    assert MGOTTrainer.build_lr_scheduler(cfg, optimizer, 99)["lr_sched"].T_max == 1  # 3 epochs, 2 of warm-up
    alone = config("MGOT.CROSS_START_EPOCH", 0, "MGOT.CROSS_STAGE.BASE_LR", 0.02)
    optimizer, _ = MGOTTrainer.build_optimizer(alone, nn.Linear(3, 2))
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}
