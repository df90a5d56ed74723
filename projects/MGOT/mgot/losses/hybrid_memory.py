"""Contrast with hybrid prototypes, each the mean of an infrared prototype and of its visible match.

Source: [RPNR], read in its code. Notation as in :mod:`mgot.losses.pbcl`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss
from mgot.losses.dual import dual_cross_entropy
from mgot.losses.pbcl import prototype_cross_entropy


def hybrid_prototypes(phi_v: Tensor, phi_r: Tensor, r2v: Tensor) -> Tensor:
    """Phi_h[j] = normalise((Phi_r[j] + Phi_v[r2v[j]]) / 2).

    Args:
        phi_v, phi_r: (K_v, D), (K_r, D) prototypes.
        r2v: (K_r,) int64 match of each infrared cluster; if it is -1, Phi_h[j] is Phi_r[j].

    Returns:
        (K_r, D), rows L2-normalised.
    """
    if len(phi_v) == 0:
        return F.normalize(phi_r, dim=1)
    match = phi_v.index_select(0, r2v.clamp(min=0))
    return F.normalize(torch.where(r2v[:, None] >= 0, phi_r + match, phi_r), dim=1)


@register_loss("hybrid", stage="cross", weight=0.0)
@dataclass(frozen=True)
class Hybrid:
    """One direction in one epoch, the other in the next.

        CE(f_v, Phi_h, v2r[y_v]) in epochs of even number, CE(f_r, Phi_h, y_r) in the others

    Epochs are counted from the cross stage's start. Phi_h is computed from the memories at each step. Visible images
    without a match take no part.

    Args:
        dual: contrast with the hybrid prototypes of the second memories too, as in
            :class:`mgot.losses.alternate.ACCL` [RPNR].
        floor: of that contrast, 0 or more.
    """

    dual: bool = False
    floor: float = 0.2

    def __call__(self, batch: CrossBatch) -> Tensor:
        phi_h = hybrid_prototypes(batch.phi_v, batch.phi_r, batch.r2v)
        if batch.to_infrared:
            f, y, belief = batch.f_v, batch.y_v2r, batch.belief_v
        else:
            f, y, belief = batch.f_r, batch.y_r, None
        if self.dual:
            hard_h = hybrid_prototypes(batch.hard_v, batch.hard_r, batch.r2v)
            return dual_cross_entropy(f, phi_h, hard_h, y, batch.temperature, self.floor, belief)
        return prototype_cross_entropy(f, phi_h, y, batch.temperature, belief)
