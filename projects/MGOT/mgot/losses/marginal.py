"""A contrast that sums a label's probability over both modalities' memories, so that both decide together.

Source: [DMDL], read in its code. Notation as in :mod:`mgot.losses.pbcl`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss

_NOTHING = -1e4  # log of a probability that is none; minus infinity would have no gradient


def marginal_cross_entropy(
    f: Tensor,
    phis: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    shares: tuple[float, float],
    y: Tensor,
    temperature: float = 0.05,
) -> Tensor:
    """Contrast with two memories at once.

        p_m(l | f) = sum over the prototypes k of memory m with label l of softmax(f Phi_m^T / tau)[k]
        L = -log(s_1 p_1(y | f) + s_2 p_2(y | f)), averaged over the images that have a label

    Args:
        f: (B, D) L2-normalised features.
        phis: (K_1, D) and (K_2, D) prototypes; a memory may have none.
        labels: (K_1,) and (K_2,) label of each prototype in a space that both share, -1 if it has none.
        shares: s_1 and s_2, each above 0, of sum 1.
        y: (B,) int64 labels in that space, -1 for images that take no part.
        temperature: tau > 0.

    Returns:
        Scalar >= 0 in nats; 0, still attached to the graph, for a batch without labels.
    """
    terms = []
    for phi, label, share in zip(phis, labels, shares, strict=True):
        if len(phi):
            log_p = torch.log_softmax(f.float() @ phi.t() / temperature, dim=1)
            of_label = label[None, :] == y[:, None]
            terms.append(math.log(share) + log_p.masked_fill(~of_label, _NOTHING).logsumexp(dim=1))
    if not terms or not len(f):
        return 0.0 * f.sum()
    each = -torch.stack(terms).logsumexp(dim=0)
    return torch.where(y >= 0, each, 0.0).sum() / (y >= 0).sum().clamp(min=1)


@register_loss("marginal", stage="cross", weight=0.0)
@dataclass(frozen=True)
class Marginal:
    """:func:`marginal_cross_entropy` of both modalities, summed; the shared labels change with the epoch.

    In epochs of even number, counted from the cross stage's start, they are the infrared clusters, and a visible
    cluster carries its match's; in the others it is the other way round.

    Args:
        visible: share of the visible memory, in (0, 1) [DMDL: the visible images' share of all that are clustered].
    """

    visible: float = 0.5

    def __call__(self, batch: CrossBatch) -> Tensor:
        own_v, own_r = (torch.arange(len(phi), device=phi.device) for phi in (batch.phi_v, batch.phi_r))
        if batch.to_infrared:
            labels, y_v, y_r = (batch.v2r, own_r), batch.y_v2r, batch.y_r
        else:
            labels, y_v, y_r = (own_v, batch.r2v), batch.y_v, batch.y_r2v
        phis, shares, tau = (batch.phi_v, batch.phi_r), (self.visible, 1.0 - self.visible), batch.temperature
        visible = marginal_cross_entropy(batch.f_v, phis, labels, shares, y_v, tau)
        return visible + marginal_cross_entropy(batch.f_r, phis, labels, shares, y_r, tau)
