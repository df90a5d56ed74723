"""Contrast with hybrid prototypes, each the mean of an infrared prototype and of its visible match.

Source: [RPNR], read in its code. Notation as in :mod:`mgot.losses.pbcl`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss
from mgot.losses.dual import Contrast


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
class Hybrid(Contrast):
    """One direction in one epoch, the other in the next.

        CE(f_v, Phi_h, v2r[y_v]) in epochs of even number, CE(f_r, Phi_h, y_r) in the others

    Epochs are counted from the cross stage's start. Phi_h is computed from the memories at each step. Visible images
    without a match take no part. Arguments as in :class:`mgot.losses.dual.Contrast`; the second memories have hybrid
    prototypes of their own.
    """

    def __call__(self, batch: CrossBatch) -> Tensor:
        phi_h = hybrid_prototypes(batch.phi_v, batch.phi_r, batch.r2v)
        hard_h = hybrid_prototypes(batch.hard_v, batch.hard_r, batch.r2v) if self.dual else phi_h
        if batch.to_infrared:
            return self.contrast(batch.f_v, phi_h, hard_h, batch.y_v2r, batch.temperature, batch.belief_v)
        return self.contrast(batch.f_r, phi_h, hard_h, batch.y_r, batch.temperature, None)
