"""Gives every process the features of all processes, so that each computes the losses of the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def gather_with_gradient(x: Tensor) -> Tensor:
    """(W B, D) rows of all W processes from (B, D) rows of each.

    In the backward pass the gradients of all processes are added. Each process computes the same loss of all rows, so a
    row's gradient is W times that of one process. Data-parallel training takes the mean over processes, which gives the
    gradient of one process.
    """
    return _GatherRows.apply(x)
