"""Layers that rest for the first steps: fast-reid's MODEL.FREEZE_LAYERS and SOLVER.FREEZE_ITERS.

fast-reid counts the steps within the optimiser, where no checkpoint sees them: a resumed run would freeze the layers
again. And a norm that fast-reid puts to rest wakes up when the network has been scored. Here the run's iteration
decides, at each step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase
from torch import nn

from mgot.errors import UserError


def without_freezing(cfg: CfgNode) -> CfgNode:
    """The same config for an optimiser that freezes nothing by itself."""
    plain = cfg.clone()
    plain.defrost()
    plain.SOLVER.FREEZE_ITERS = 0
    return plain


def frozen_parameters(model: nn.Module, patterns: Sequence[str]) -> list[nn.Parameter]:
    """The parameters whose names a pattern of MODEL.FREEZE_LAYERS matches from the start, as in fast-reid.

    Raises:
        UserError: a pattern is no regular expression, or matches no name.
    """
    named = dict(model.named_parameters())
    found: set[str] = set()
    for pattern in patterns:
        try:
            matched = {name for name in named if re.match(pattern, name)}
        except re.error as error:
            raise UserError(f"MODEL.FREEZE_LAYERS: {pattern!r} is not a regular expression ({error})") from None
        if not matched:
            begins = sorted({name.split(".")[0] for name in named})
            raise UserError(f"MODEL.FREEZE_LAYERS: no layer's name begins with {pattern!r}: they begin with {begins}")
        found |= matched
    return [value for name, value in named.items() if name in found]


class FreezeHook(HookBase):
    """Layers of MODEL.FREEZE_LAYERS keep their weights up to iteration SOLVER.FREEZE_ITERS.

    The norms of a part of the network that is named as a whole, such as ``backbone``, keep their statistics too.

    Args:
        model: the network, not wrapped for several processes.
        optimizer: of the network; it steps without the gradients of frozen layers.
        patterns, iterations: MODEL.FREEZE_LAYERS and SOLVER.FREEZE_ITERS.

    Raises:
        UserError: see :func:`frozen_parameters`.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, patterns: Sequence[str], iterations: int
    ) -> None:
        self._parameters = frozen_parameters(model, patterns)
        self._resting = [module for name, module in model.named_children() if name in patterns]
        self._iterations = iterations
        optimizer.register_step_pre_hook(self._forget_gradients)

    def before_step(self) -> None:
        for module in self._resting:
            module.train(self.trainer.iter >= self._iterations)

    def _forget_gradients(self, *_: Any) -> None:
        if self.trainer.iter < self._iterations:
            for value in self._parameters:
                value.grad = None


def build_freeze_hook(cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer) -> FreezeHook | None:
    """The hook, or None where the config freezes nothing."""
    if not cfg.MODEL.FREEZE_LAYERS or cfg.SOLVER.FREEZE_ITERS == 0:
        return None
    return FreezeHook(model, optimizer, cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS)
