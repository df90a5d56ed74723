"""From a matching to the shared label space and its prototypes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.matching.base import UNMATCHED, Matching


def cross_labels(matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both modalities' clusters in one space, that of the demand clusters.

    A demand cluster's label is its own number. A supply cluster has the number of its match (docs/method.md section 5).

    Returns:
        c_v (K_v,) and c_r (K_r,), int64; UNMATCHED if a supply cluster has no match.
    """
    if matching.supply == "visible":
        return matching.v2r, np.arange(len(matching.r2v))
    return np.arange(len(matching.v2r)), matching.r2v


def cross_prototypes(phi_v: Tensor, phi_r: Tensor, matching: Matching) -> Tensor:
    """Phi_c: each demand prototype averaged with the prototypes matched to it.

        Phi_c[j] = normalise(mean of Phi_demand[j] and of every Phi_supply[i] matched to j)

    Matched to j are the supply clusters that took j or, if none did, the one that the opposite transport gave.
    Source: docs/method.md section 5, [ours] after RPNR.

    Args:
        phi_v: (K_v, D) visible prototypes.
        phi_r: (K_r, D) infrared prototypes.
        matching: of these prototypes.

    Returns:
        (K_c, D), K_c the number of demand clusters.
    """
    visible_supplies = matching.supply == "visible"
    supply, demand = (phi_v, phi_r) if visible_supplies else (phi_r, phi_v)
    members = members_of_labels(matching)[0 if visible_supplies else 1]
    sources, targets = torch.as_tensor(members, device=demand.device)
    total, count = demand.clone(), demand.new_ones(demand.shape[0], 1)
    total.index_add_(0, targets, supply[sources])
    count.index_add_(0, targets, count.new_ones(len(targets), 1))
    return F.normalize(total / count, dim=1)


def members_of_labels(matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Which clusters belong to each cross label.

    A supply cluster belongs to the label of its match, and to that of each demand cluster that the opposite transport
    gave it. A demand cluster belongs to its own label.

    Returns:
        (2, M_v) and (2, M_r) int64: pairs of visible cluster and label, of infrared cluster and label.
    """
    visible_supplies = matching.supply == "visible"
    forward, backward = (matching.v2r, matching.r2v) if visible_supplies else (matching.r2v, matching.v2r)
    sources = np.concatenate([np.arange(len(forward)), backward[matching.unassigned]])
    targets = np.concatenate([forward, matching.unassigned])
    matched = (sources != UNMATCHED) & (targets != UNMATCHED)
    supply = np.stack([sources[matched], targets[matched]]).astype(np.int64)
    demand = np.tile(np.arange(len(backward), dtype=np.int64), (2, 1))
    return (supply, demand) if visible_supplies else (demand, supply)
