"""Alternate cross contrastive learning (ACCL): one direction across the modalities in one epoch, the other in the next.

Source: [PGM], read in its code. Notation as in :mod:`mgot.losses.pbcl`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss
from mgot.losses.dual import Contrast


@register_loss("accl", stage="cross", weight=0.0)
@dataclass(frozen=True)
class ACCL(Contrast):
    """One of the two terms of CCL.

        CE(f_v, Phi_r, v2r[y_v]) in epochs of even number, CE(f_r, Phi_v, r2v[y_r]) in the others

    Epochs are counted from the cross stage's start. Images without a match take no part. Arguments as in
    :class:`mgot.losses.dual.Contrast`.
    """

    def __call__(self, batch: CrossBatch) -> Tensor:
        if batch.to_infrared:
            visible = batch.f_v, batch.phi_r, batch.hard_r, batch.y_v2r
            return self.contrast(*visible, batch.temperature, batch.belief_v)
        infrared = batch.f_r, batch.phi_v, batch.hard_v, batch.y_r2v
        return self.contrast(*infrared, batch.temperature, batch.belief_r)
