"""The adversary of DEN: a modality classifier behind a gradient reversal (docs/method.md section 2, [OTLA])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INITS = ("otla", "torch")
_NECK_STD, _LAST_STD = 0.01, 0.001


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float | Tensor) -> Tensor:
        ctx.coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return -ctx.coefficient * grad, None


def reverse_gradient(x: Tensor, coefficient: float | Tensor) -> Tensor:
    """The identity in the forward pass; in the backward pass the gradient times ``-coefficient``."""
    return _Reversal.apply(x, coefficient)


def reversal_coefficient(iteration: Tensor, horizon: int) -> Tensor:
    """2 / (1 + exp(-10 t / T)) - 1 = tanh(5 t / T): 0 at t = 0, close to 1 at t = T. Source: [OTLA], T = 10000.

    The result is a tensor on t's device, so a step does not wait for the count.
    """
    return torch.tanh(5.0 * iteration / horizon)


class ModalityDiscriminator(nn.Module):
    """Distinguishes visible from infrared by the pooled outputs of several stages.

    BNNecks (bias frozen) on each stage's pooled output, and features that come from a neck elsewhere -> concatenation
    -> gradient reversal -> MLP C -> C/2 -> C/2 -> 1 with ReLU and dropout after the first two -> BatchNorm (bias
    frozen) -> logit of "visible". The reversed gradient reaches the necks, here and elsewhere.

    Args:
        stage_dims: channels of each stage, such as (64, 256, 512, 1024).
        shared_dim: channels of the features from another neck, such as 2048; 0 if there are none.
        dropout: in [0, 1).
        horizon: T of the reversal coefficient, in iterations.
        logit_norm: False leaves the norm of the logit out [ours].
        init: "otla": hidden layers from Kaiming's normal distribution (fan out), the last one from N(0, 0.001), their
            biases 0, the necks' weights from N(1, 0.01); "torch": PyTorch's own start [ours].
    """

    iteration: Tensor

    def __init__(
        self,
        stage_dims: Sequence[int],
        *,
        shared_dim: int = 0,
        dropout: float = 0.5,
        horizon: int = 10000,
        logit_norm: bool = True,
        init: str = "otla",
    ) -> None:
        super().__init__()
        self.horizon = horizon
        self.necks = nn.ModuleList(_norm(d) for d in stage_dims)
        width = sum(stage_dims) + shared_dim
        hidden = max(width // 2, 1)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )  # fmt: skip
        self.logit_norm = _norm(1) if logit_norm else nn.Identity()
        if init == "otla":
            self._init_as_otla()
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def _init_as_otla(self) -> None:
        *hidden, last = (layer for layer in self.mlp if isinstance(layer, nn.Linear))
        for layer in hidden:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        nn.init.normal_(last.weight, 0.0, _LAST_STD)
        for layer in (*hidden, last):
            nn.init.zeros_(layer.bias)
        for neck in self.necks:
            nn.init.normal_(neck.get_parameter("weight"), 1.0, _NECK_STD)

    def forward(self, stages: Sequence[Tensor], shared: Tensor | None = None) -> Tensor:
        """(B,) logits of "visible".

        Args:
            stages: pooled outputs [(B, C_1), (B, C_2), ...], one for each neck.
            shared: (B, shared_dim) features after a neck elsewhere.
        """
        necked = [neck(stage.float()) for neck, stage in zip(self.necks, stages, strict=True)]
        x = torch.cat(necked if shared is None else [*necked, shared.float()], dim=1)
        reversed_x = reverse_gradient(x, reversal_coefficient(self.iteration, self.horizon))
        return self.logit_norm(self.mlp(reversed_x)).squeeze(1)

    def loss(self, stages: Sequence[Tensor], is_visible: Tensor, shared: Tensor | None = None) -> Tensor:
        """L_D, binary cross-entropy of the logits, visible = 1; counts one training iteration.

        Args:
            stages: pooled outputs, each (B, C).
            is_visible: (B,) bool.
            shared: as in :meth:`forward`.
        """
        loss = F.binary_cross_entropy_with_logits(self(stages, shared), is_visible.float())
        self.iteration += 1
        return loss


def _norm(width: int) -> nn.BatchNorm1d:
    """A batch norm without a shift, as a BNNeck is."""
    norm = nn.BatchNorm1d(width)
    norm.bias.requires_grad_(False)
    return norm
