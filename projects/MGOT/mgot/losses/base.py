"""What a loss may use, and the registry of losses.

Notation: v visible, r infrared, c cross; f features (B, D), y labels (B,), Phi prototypes (K, D), tau temperature.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from mgot.errors import UserError
from mgot.memory import to_infrared
from mgot.registry import Part, Registry

LOSS_STAGES = ("intra", "cross")
_TAKEN = ("adv",)  # the discriminator's own term: its weight is W_ADV


@dataclass(frozen=True)
class Batch:
    """A step as a loss sees it.

    Attributes:
        f_v, f_r: (B_v, D), (B_r, D) L2-normalised features in float32, with gradient.
        y_v, y_r: (B_v,), (B_r,) int64 cluster of each image; outliers are never drawn.
        phi_v, phi_r: (K_v, D), (K_r, D) prototypes, constants of the step.
        hard_v, hard_r: those of the second memories, of the same shapes; where there are none, the first ones.
        temperature: tau > 0.

    All tensors are on the features' device.
    """

    f_v: Tensor
    f_r: Tensor
    y_v: Tensor
    y_r: Tensor
    phi_v: Tensor
    phi_r: Tensor
    hard_v: Tensor
    hard_r: Tensor
    temperature: float


@dataclass(frozen=True)
class CrossBatch(Batch):
    """A step of the cross-modality stage.

    Attributes:
        phi_c: (K_c, D) cross prototypes.
        y_v2r: (B_v,) infrared cluster matched to each visible image's, -1 if there is none.
        y_r2v: (B_r,) visible cluster matched to each infrared image's, -1 if there is none.
        c_v, c_r: (B_v,), (B_r,) cross label of each image, -1 if it has none.
        belief_v, belief_r: (B_v,), (B_r,) in [0, 1], the belief in each image's match; None is 1 for all.
        cross_weight: the factor of the cross stage's terms in this epoch. The objective multiplies by it.
        v2r, r2v: (K_v,), (K_r,) match of each cluster, -1 if there is none.
        cross_epoch: number of the epoch, counted from the cross stage's start.
    """

    phi_c: Tensor
    y_v2r: Tensor
    y_r2v: Tensor
    c_v: Tensor
    c_r: Tensor
    belief_v: Tensor | None
    belief_r: Tensor | None
    cross_weight: float
    v2r: Tensor
    r2v: Tensor
    cross_epoch: int

    @property
    def to_infrared(self) -> bool:
        """Whether an alternating loss goes from visible to infrared in this epoch: in epochs of even number [PGM]."""
        return to_infrared(self.cross_epoch)


Loss = Callable[[Any], Tensor]
"""A :class:`Batch`, in the cross stage a :class:`CrossBatch`, to a scalar. A loss changes no memory."""


class RegisteredLoss(NamedTuple):
    """An entry of :data:`LOSSES`.

    Attributes:
        part: a :data:`Loss`, or a dataclass whose instances are.
        stage: "intra" takes part from the start, "cross" only in the cross stage.
        weight: default of its key.
    """

    part: Part
    stage: str
    weight: float


LOSSES: Registry[RegisteredLoss] = Registry("loss")
L = TypeVar("L", bound=Part)


def register_loss(name: str, *, stage: str = "intra", weight: float = 1.0) -> Callable[[L], L]:
    """Decorator: register a loss under ``name``, logged as ``loss_<name>``, with the key MGOT.LOSS.W_<NAME>.

    The fields of a loss that is a dataclass become keys: ``margin`` is set by MGOT.LOSS.<NAME>_MARGIN.

    Args:
        name: small letters, digits and underscores.
        stage: "intra": from the start, on a :class:`Batch`; "cross": in the cross stage, on a :class:`CrossBatch`.
        weight: 0 or more, the default; with 0 the loss is not computed until its key is set.

    Raises:
        UserError: the name is taken or cannot be one, the stage is unknown, or the weight is below 0.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in _TAKEN:
        raise UserError(
            f"a loss cannot be named '{name}': take small letters, digits, underscores, and none of {_TAKEN}"
        )
    if stage not in LOSS_STAGES or not weight >= 0:
        raise UserError(f"loss '{name}': its stage must be one of {LOSS_STAGES}, and its weight 0 or more")

    def register(part: L) -> L:
        LOSSES.add(name, RegisteredLoss(part, stage, weight))
        return part

    return register
