"""The host's optimiser, stepping all parameters at once. [ours]"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.solver import build_optimizer
from torch import nn


def build_fused_optimizer(cfg: CfgNode, model: nn.Module) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser of the host's SOLVER keys, and the parameter groups that the host made.

    The backbone learns at MGOT.DEN.BACKBONE_LR_FACTOR times the rate that the host gives it [OTLA: 0.1].

    The host gives each parameter a group of its own, and an optimiser walks its groups one by one; groups alike but
    for the parameters become one, and where PyTorch has a fused kernel for the optimiser it is used.
    """
    # The host's contiguous parameters (fastreid/utils/params.py) share their gradients with the optimiser's
    # buffers; since torch 2.0 zero_grad() drops those buffers and the model would silently stop learning.
    hosts, params = build_optimizer(cfg, model, contiguous=False)
    slow_down_backbone(hosts.param_groups, model, cfg.MGOT.DEN.BACKBONE_LR_FACTOR)
    accepted = inspect.signature(type(hosts).__init__).parameters
    options = {name: value for name, value in hosts.defaults.items() if name in accepted}
    # The fused kernel unscales float16's gradients itself, after the host's clipping would have looked at them.
    fused = {"fused": True, "foreach": None} if "fused" in accepted and not cfg.SOLVER.CLIP_GRADIENTS.ENABLED else {}
    groups = merge_groups([{**group, **fused} for group in hosts.param_groups])
    return type(hosts)(groups, **{**options, **fused}), params


def slow_down_backbone(groups: list[dict[str, Any]], model: nn.Module, factor: float) -> None:
    """Multiply the rates of the groups that hold a parameter of ``model.backbone``, in place; one parameter a group."""
    backbone = {id(value) for name, value in model.named_parameters() if name.startswith("backbone.")}
    for group in groups:
        if id(group["params"][0]) in backbone:
            group["lr"] *= factor


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups that differ in nothing but their parameters, put together; in order of first occurrence."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in groups:
        key = tuple(sorted((name, value) for name, value in group.items() if name != "params"))
        merged.setdefault(key, {**group, "params": []})["params"].extend(group["params"])
    return list(merged.values())
