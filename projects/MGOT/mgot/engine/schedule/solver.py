"""Each stage's optimiser and schedule: fast-reid's own, reset when the cross-modality stage starts.

docs/method.md section 9 [field]: PGM makes a new Adam and a new step decay for its second stage.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from fastreid.config import CfgNode
from fastreid.engine.hooks import LRScheduler
from fastreid.engine.train_loop import HookBase
from fastreid.solver import build_lr_scheduler, build_optimizer
from torch import nn

from mgot.engine.schedule.cross import cross_start_epoch
from mgot.engine.schedule.freeze import without_freezing
from mgot.errors import UserError


class Stage(NamedTuple):
    """A range of epochs with one optimiser state and one schedule.

    ``cfg`` is the run's config with the SOLVER keys of this stage: its length as MAX_EPOCH, its STEPS and BASE_LR.
    """

    start: int
    cfg: CfgNode


def stages(cfg: CfgNode) -> list[Stage]:
    """The stages of a run, one or two, in order of time.

    There is one stage if MGOT.CROSS_STAGE.OWN_OPTIMIZER is False, or if one of the two has no epochs. Warm-up and
    SOLVER.DELAY_EPOCHS come once, at the run's start: they protect new layers, and in the second stage no layer is new
    [ours].

    Raises:
        UserError: warm-up or delay is longer than the first of two stages.
    """
    begin, end = cross_start_epoch(cfg), cfg.SOLVER.MAX_EPOCH
    if not cfg.MGOT.CROSS_STAGE.OWN_OPTIMIZER or begin >= end:
        return [Stage(0, cfg)]
    if begin == 0:
        return [Stage(0, _cross_config(cfg, end))]
    warm_up = math.ceil(cfg.SOLVER.WARMUP_ITERS / cfg.MGOT.ITERS_PER_EPOCH)
    for key, epochs in (("WARMUP_ITERS", warm_up), ("DELAY_EPOCHS", cfg.SOLVER.DELAY_EPOCHS)):
        if epochs > begin:
            raise UserError(
                f"SOLVER.{key} lasts {epochs} epochs, longer than the first stage of MGOT.CROSS_START_EPOCH {begin}:"
                " shorten it, or set MGOT.CROSS_STAGE.OWN_OPTIMIZER False"
            )
    first = cfg.clone()
    first.defrost()
    # fast-reid takes warm-up and delay off the length, and divides by what is left.
    first.SOLVER.MAX_EPOCH = max(begin, warm_up + 1, cfg.SOLVER.DELAY_EPOCHS + 1)
    second = _cross_config(cfg, end - begin)
    second.SOLVER.WARMUP_ITERS, second.SOLVER.DELAY_EPOCHS = 0, 0
    return [Stage(0, first), Stage(begin, second)]


def _cross_config(cfg: CfgNode, length: int) -> CfgNode:
    keys, made = cfg.MGOT.CROSS_STAGE, cfg.clone()
    made.defrost()
    made.SOLVER.MAX_EPOCH = length
    made.SOLVER.STEPS = keys.STEPS or cfg.SOLVER.STEPS
    made.SOLVER.BASE_LR = keys.BASE_LR or cfg.SOLVER.BASE_LR
    return made


def begin_stage(
    cfg: CfgNode, optimizer: torch.optim.Optimizer, schedulers: Mapping[str, Any], rates: Sequence[float]
) -> None:
    """Reset optimiser and schedule to the start of a new run of this config, in place.

    The objects stay, because hooks and checkpointer hold them. Their content is replaced.

    Args:
        cfg: of the stage.
        optimizer: loses its moments.
        schedulers: fast-reid's, by name; those that it makes for ``cfg`` start again, others do not change.
        rates: learning rate of each parameter group at the stage's start.
    """
    optimizer.state.clear()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = group["initial_lr"] = rate
    for name, fresh in build_lr_scheduler(cfg, optimizer, cfg.MGOT.ITERS_PER_EPOCH).items():
        schedulers[name].load_state_dict(fresh.state_dict())


def build_rate_hook(cfg: CfgNode, optimizer: torch.optim.Optimizer, schedulers: Mapping[str, Any]) -> LRScheduler:
    """fast-reid's hook of the learning rate. It logs the rate of the new layers, not the backbone's."""
    hook = LRScheduler(optimizer, schedulers)
    log_rate_of(hook, optimizer, stages(cfg)[0].cfg.SOLVER.BASE_LR)
    return hook


def log_rate_of(hook: LRScheduler, optimizer: torch.optim.Optimizer, base_lr: float) -> None:
    """Let fast-reid's hook log the rate of the group that started at ``base_lr``; if there is none, nothing changes.

    fast-reid logs the rate of its largest group (engine/hooks.py:246). That is the backbone, which has another factor.
    """
    rates = [group["initial_lr"] for group in optimizer.param_groups]
    if base_lr in rates:
        hook._best_param_group_id = rates.index(base_lr)


class StageHook(HookBase):
    """At the first epoch of each stage except the run's first: reset the optimiser state, learning rate and schedule.

    A checkpoint from the end of the epoch before holds the old stage's; one from within the epoch holds the new
    stage's.

    Args:
        stages: of the run.
        optimizer: as built for the first stage, with that stage's schedule on it.
    """

    in_checkpoint = True

    def __init__(self, stages: Sequence[Stage], optimizer: torch.optim.Optimizer) -> None:
        self._stages = stages
        # A resumed optimiser brings its own; these are the config's.
        self._rates = [group["initial_lr"] for group in optimizer.param_groups]

    def before_epoch(self) -> None:
        first = self._stages[0]
        for stage in self._stages[1:]:
            if stage.start == self.trainer.epoch:
                factor = stage.cfg.SOLVER.BASE_LR / first.cfg.SOLVER.BASE_LR
                rates = [factor * rate for rate in self._rates]
                begin_stage(stage.cfg, self.trainer.optimizer, self.trainer.scheduler, rates)


def build_fused_optimizer(cfg: CfgNode, model: nn.Module) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser of fast-reid's SOLVER keys, and the parameter groups that fast-reid made.

    The backbone learns at MGOT.DEN.BACKBONE_LR_FACTOR times the rate that fast-reid gives it [OTLA: 0.1].

    fast-reid gives each parameter its own group, and an optimiser handles its groups one by one. So groups with the
    same settings are merged. If PyTorch has a fused kernel for the optimiser, it is used.
    :class:`mgot.engine.schedule.freeze.FreezeHook` freezes layers.
    """
    # fast-reid's contiguous parameters (fastreid/utils/params.py) share their gradients with the optimiser's
    # buffers; since torch 2.0 zero_grad() drops those buffers and the model would silently stop learning.
    plain, params = build_optimizer(without_freezing(cfg), model, contiguous=False)
    slow_down_backbone(plain.param_groups, model, cfg.MGOT.DEN.BACKBONE_LR_FACTOR)
    accepted = inspect.signature(type(plain).__init__).parameters
    options = {name: value for name, value in plain.defaults.items() if name in accepted}
    # The fused kernel unscales float16's gradients itself, after fast-reid's clipping would have looked at them.
    fused = {"fused": True, "foreach": None} if "fused" in accepted and not cfg.SOLVER.CLIP_GRADIENTS.ENABLED else {}
    groups = merge_groups([{**group, **fused} for group in plain.param_groups])
    return type(plain)(groups, **{**options, **fused}), params


def slow_down_backbone(groups: list[dict[str, Any]], model: nn.Module, factor: float) -> None:
    """Multiply the rates of the groups that hold a parameter of ``model.backbone``, in place.

    Each group has one parameter.
    """
    backbone = {id(value) for name, value in model.named_parameters() if name.startswith("backbone.")}
    for group in groups:
        if id(group["params"][0]) in backbone:
            group["lr"] *= factor


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups with the same settings, merged; in order of first occurrence."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in groups:
        key = tuple(sorted((name, value) for name, value in group.items() if name != "params"))
        merged.setdefault(key, {**group, "params": []})["params"].extend(group["params"])
    return list(merged.values())
