"""The adversary of DEN: a modality classifier behind a gradient reversal (METHOD.md section 2, [OTLA])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float | Tensor) -> Tensor:
        ctx.coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return -ctx.coefficient * grad, None


def reverse_gradient(x: Tensor, coefficient: float | Tensor) -> Tensor:
    """The identity forwards; backwards the gradient times ``-coefficient``."""
    return _Reversal.apply(x, coefficient)


def reversal_coefficient(iteration: Tensor, horizon: int) -> Tensor:
    """2 / (1 + exp(-10 t / T)) - 1 = tanh(5 t / T): 0 at t = 0, close to 1 at t = T. Source: [OTLA], T = 10000.

    A tensor on t's device, so that a step need not wait for the count.
    """
    return torch.tanh(5.0 * iteration / horizon)


class ModalityDiscriminator(nn.Module):
    """Tells visible from infrared by the pooled outputs of several stages.

    BNNecks (bias frozen) on each stage's pooled output -> concatenation -> gradient reversal -> MLP
    C -> C/2 -> C/2 -> 1 with ReLU and dropout after the first two -> logit of "visible".

    Args:
        stage_dims: channels of each stage, such as (64, 256, 512, 1024, 2048).
        dropout: in [0, 1).
        horizon: T of the reversal coefficient, in iterations.
    """

    iteration: Tensor

    def __init__(self, stage_dims: Sequence[int], *, dropout: float = 0.5, horizon: int = 10000) -> None:
        super().__init__()
        self.horizon = horizon
        self.necks = nn.ModuleList(nn.BatchNorm1d(d) for d in stage_dims)
        for neck in self.necks:
            neck.bias.requires_grad_(False)
        width = sum(stage_dims)
        hidden = max(width // 2, 1)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )  # fmt: skip
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """(B,) logits of "visible" from pooled stage outputs [(B, C_1), (B, C_2), ...]."""
        necked = torch.cat([neck(stage.float()) for neck, stage in zip(self.necks, stages, strict=True)], dim=1)
        coefficient = reversal_coefficient(self.iteration, self.horizon)
        return self.mlp(reverse_gradient(necked, coefficient)).squeeze(1)

    def loss(self, stages: Sequence[Tensor], is_visible: Tensor) -> Tensor:
        """L_D, binary cross-entropy of the logits, visible = 1; counts one training iteration.

        Args:
            stages: pooled outputs, each (B, C).
            is_visible: (B,) bool.
        """
        loss = F.binary_cross_entropy_with_logits(self(stages), is_visible.float())
        self.iteration += 1
        return loss
