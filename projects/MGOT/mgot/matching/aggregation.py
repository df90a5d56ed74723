"""Aggregation of memories: a prototype moves towards its match."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.matching.base import UNMATCHED, Matching


def aggregated(phi_v: Tensor, phi_r: Tensor, matching: Matching, share: float) -> Tensor:
    """Visible prototypes, moved towards their infrared matches.

        Phi_v[i] <- normalise((1 - a) Phi_v[i] + a Phi_r[v2r[i]]) where i has a match

    Visible images are then contrasted with prototypes that are near the infrared ones. This replaces a loss across the
    modalities. Source: [ADCA], cross-modality memory aggregation with a = 0.9; its code leaves out the normalisation.

    Args:
        phi_v, phi_r: (K_v, D), (K_r, D) L2-normalised prototypes.
        matching: of these prototypes.
        share: a, in [0, 1]; with 0 the prototypes are returned unchanged.

    Returns:
        (K_v, D); a new tensor where the share is above 0.
    """
    matched = torch.as_tensor(matching.v2r != UNMATCHED, device=phi_v.device)
    if share == 0 or not bool(matched.any()):
        return phi_v
    match = phi_r[torch.as_tensor(matching.v2r, device=phi_v.device).clamp(min=0)]
    return torch.where(matched[:, None], F.normalize((1.0 - share) * phi_v + share * match, dim=1), phi_v)
