"""Neighbour relations: a relaxed contrast of all images of a modality, without labels.

Source: [RPNR], read in its code; its form is that of relaxed contrastive learning. Notation: f (B, D) features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss

_TINY = 1e-12


def neighbour_relations(f: Tensor, sigma: float = 1.0, delta: float = 1.0) -> Tensor:
    """Pull an image to its neighbours and push it from the others; the distance decides how much.

        d_ij = |f_i - f_j|;   D_ij = d_ij / (mean of row i of d);   w_ij = exp(-d_ij^2 / sigma), without gradient
        mean over i != j of  w_ij D_ij^2 + (1 - w_ij) max(delta - D_ij, 0)^2

    Args:
        f: (B, D) L2-normalised features of one modality.
        sigma: > 0; with a larger one, a neighbour may be farther away.
        delta: relative distance >= 0; farther images are not pushed.

    Returns:
        Scalar >= 0; 0, still attached to the graph, for fewer than two images.
    """
    n = len(f)
    if n < 2:
        return 0.0 * f.sum()
    # Not by |f|^2 - 2 f f^T: cancellation would make neighbours of images that are the same.
    distance = torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist")
    relative = distance / distance.mean(dim=1, keepdim=True).clamp(min=_TINY)
    with torch.no_grad():
        near = torch.exp(-distance.square() / sigma)
        apart = 1.0 - torch.eye(n, device=f.device)
    each = near * relative.square() + (1.0 - near) * torch.relu(delta - relative).square()
    return (each * apart).sum() / (n * (n - 1))


@register_loss("neighbour", stage="cross", weight=0.0)
@dataclass(frozen=True)
class Neighbour:
    """:func:`neighbour_relations` of both modalities, summed.

    Args:
        sigma, delta: as there [RPNR].
    """

    sigma: float = 1.0
    delta: float = 1.0

    def __call__(self, batch: CrossBatch) -> Tensor:
        visible = neighbour_relations(batch.f_v, self.sigma, self.delta)
        return visible + neighbour_relations(batch.f_r, self.sigma, self.delta)
