"""Alternate cross contrastive learning (ACCL): one direction across the modalities in one epoch, the other in the next.

Source: [PGM], read in its code. Notation as in :mod:`mgot.losses.pbcl`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss
from mgot.losses.dual import dual_cross_entropy
from mgot.losses.pbcl import prototype_cross_entropy


@register_loss("accl", stage="cross", weight=0.0)
@dataclass(frozen=True)
class ACCL:
    """One of the two terms of CCL.

        CE(f_v, Phi_r, v2r[y_v]) in epochs of even number, CE(f_r, Phi_v, r2v[y_r]) in the others

    Epochs are counted from the cross stage's start. Images without a match take no part.

    Args:
        dual: contrast with both memories of a modality, by :func:`mgot.losses.dual.dual_cross_entropy` [RPNR]; it needs
            the second memories, which the loss `dual` builds.
        floor: of that contrast, 0 or more.
    """

    dual: bool = False
    floor: float = 0.2

    def __call__(self, batch: CrossBatch) -> Tensor:
        if batch.to_infrared:
            f, phi, hard, y, belief = batch.f_v, batch.phi_r, batch.hard_r, batch.y_v2r, batch.belief_v
        else:
            f, phi, hard, y, belief = batch.f_r, batch.phi_v, batch.hard_v, batch.y_r2v, batch.belief_r
        if self.dual:
            return dual_cross_entropy(f, phi, hard, y, batch.temperature, self.floor, belief)
        return prototype_cross_entropy(f, phi, y, batch.temperature, belief)
