"""From a matching to the shared label space and its prototypes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.matching.base import UNMATCHED, Matching


def cross_labels(matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both modalities' clusters in one space, that of the demand clusters.

    A demand cluster's label is its own number; a supply cluster carries its match's (METHOD.md section 5).

    Returns:
        c_v (K_v,) and c_r (K_r,), int64; UNMATCHED where a supply cluster has no match.
    """
    if matching.supply == "visible":
        return matching.v2r, np.arange(len(matching.r2v))
    return np.arange(len(matching.v2r)), matching.r2v


def cross_prototypes(phi_v: Tensor, phi_r: Tensor, matching: Matching) -> Tensor:
    """Phi_c: each demand prototype averaged with the prototypes matched to it.

        Phi_c[j] = normalise(mean of Phi_demand[j] and of every Phi_supply[i] matched to j)

    Matched to j are the supply clusters that took j and, where nobody did, the one that the opposite transport gave.
    Source: METHOD.md section 5, [ours] after RPNR.

    Args:
        phi_v: (K_v, D) visible prototypes.
        phi_r: (K_r, D) infrared prototypes.
        matching: of these prototypes.

    Returns:
        (K_c, D), K_c the number of demand clusters.
    """
    visible_supplies = matching.supply == "visible"
    supply, demand = (phi_v, phi_r) if visible_supplies else (phi_r, phi_v)
    forward, backward = (matching.v2r, matching.r2v) if visible_supplies else (matching.r2v, matching.v2r)
    total = demand.clone()
    count = demand.new_ones(demand.shape[0], 1)
    sources = np.concatenate([np.arange(len(forward)), backward[matching.unassigned]])
    targets = np.concatenate([forward, matching.unassigned])
    matched = (sources != UNMATCHED) & (targets != UNMATCHED)
    rows = torch.as_tensor(targets[matched], device=demand.device)
    moved = supply[torch.as_tensor(sources[matched], device=demand.device)]
    total.index_add_(0, rows, moved)
    count.index_add_(0, rows, torch.ones_like(moved[:, :1]))
    return F.normalize(total / count, dim=1)
