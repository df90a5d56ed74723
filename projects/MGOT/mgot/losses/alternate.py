"""Alternate cross contrastive learning (ACCL): one direction across the modalities in one epoch, the other in the next.

Source: [PGM], read in its code. Notation as in :mod:`mgot.losses.pbcl`.
"""

from __future__ import annotations

from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss
from mgot.losses.pbcl import prototype_cross_entropy


@register_loss("accl", stage="cross", weight=0.0)
def accl(batch: CrossBatch) -> Tensor:
    """One of the two terms of CCL.

        CE(f_v, Phi_r, v2r[y_v]) in epochs of even number, CE(f_r, Phi_v, r2v[y_r]) in the others

    Epochs are counted from the cross stage's start. Images without a match take no part.
    """
    if batch.to_infrared:
        return prototype_cross_entropy(batch.f_v, batch.phi_r, batch.y_v2r, batch.temperature, batch.belief_v)
    return prototype_cross_entropy(batch.f_r, batch.phi_v, batch.y_r2v, batch.temperature, batch.belief_r)
