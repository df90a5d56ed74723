"""Matching the clusters of one modality to those of the other: OTPA, and the registry that other matchers join.

Letters: Phi prototypes (K, D); S = Phi_v Phi_r^T; P = (S+1)/2; Q transport plan; v visible, r infrared. *Supply* is the
modality that moves first, *demand* the one that receives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.errors import UserError
from mgot.transport import TransportPlan, probability, uniform_transport

UNMATCHED = -1
SUPPLIES = ("visible", "infrared")


class Prototypes(NamedTuple):
    """What a matcher may look at.

    Attributes:
        visible: (K_v, D) L2-normalised prototypes.
        infrared: (K_r, D) L2-normalised prototypes.
        identity_v: (K_v,) majority ground-truth identity of each cluster; for the oracle alone.
        identity_r: (K_r,) the same for infrared.
    """

    visible: np.ndarray
    infrared: np.ndarray
    identity_v: np.ndarray | None = None
    identity_r: np.ndarray | None = None


class Matching(NamedTuple):
    """A correspondence of clusters.

    Attributes:
        v2r: (K_v,) int64 infrared cluster of each visible one, UNMATCHED where there is none.
        r2v: (K_r,) int64 visible cluster of each infrared one, UNMATCHED where there is none.
        scores: (K_v, K_r) what the choice was made from: the plan, or P without the prior.
        supply: "visible" or "infrared"; the other side's clusters index the shared label space.
        unassigned: (n,) demand clusters that no supply cluster took.
        transport: the plan with its errors, where a transport was solved.
    """

    v2r: np.ndarray
    r2v: np.ndarray
    scores: np.ndarray
    supply: str
    unassigned: np.ndarray
    transport: TransportPlan | None = None


class Matcher(Protocol):
    """Anything that turns prototypes into a matching; see :data:`MATCHERS`."""

    def __call__(self, prototypes: Prototypes) -> Matching: ...


MATCHERS: dict[str, type] = {}
M = TypeVar("M", bound=type)


def register_matcher(name: str) -> Callable[[M], M]:
    """Class decorator: make a matcher known under ``name``, the value of the key MGOT.MATCHER.NAME."""

    def register(cls: M) -> M:
        if name in MATCHERS:
            raise UserError(f"a matcher named '{name}' is registered already: choose another name")
        MATCHERS[name] = cls
        return cls

    return register


@register_matcher("otpa")
@dataclass(frozen=True)
class OTPA:
    """Optimal transport prototype assignment.

        Q = the entropic transport of P = (S+1)/2 under uniform marginals (:func:`mgot.transport.uniform_transport`)
        v2r[i] = argmax_j Q_ij
        r2v[j] = argmax over {i : v2r[i] = j} of Q_ij; over all i where that set is empty: the opposite transport

    written for visible supply and mirrored where infrared supplies. Source: METHOD.md section 5, [paper] Fig. 3; the
    choice of the supply is [ours].

    Args:
        sharpness: lambda.
        uniform_prior: False leaves the transport out and takes the argmax of P: the degraded solution of Fig. 3.
        opposite_transport: False leaves demand clusters that nobody took UNMATCHED.
        supply: "visible" or "infrared".
        max_iterations: bound on Sinkhorn's iterations.

    A side without clusters leaves the other UNMATCHED; otherwise, with the opposite transport, every cluster of both
    sides is matched.
    """

    sharpness: float = 25.0
    uniform_prior: bool = True
    opposite_transport: bool = True
    supply: str = "visible"
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        if self.supply not in SUPPLIES:
            raise UserError(f"the supply must be one of {SUPPLIES}, not '{self.supply}'")

    def __call__(self, prototypes: Prototypes) -> Matching:
        similarity = prototypes.visible @ prototypes.infrared.T
        if not similarity.size:
            return _nothing_matched(similarity, self.supply)
        plan = None
        if self.uniform_prior:
            plan = uniform_transport(similarity, self.sharpness, max_iterations=self.max_iterations)
        scores = probability(similarity) if plan is None else plan.plan
        if self.supply == "visible":
            v2r, r2v, unassigned = _assign(scores, self.opposite_transport)
        else:
            r2v, v2r, unassigned = _assign(scores.T, self.opposite_transport)
        return Matching(v2r, r2v, scores, self.supply, unassigned, plan)


@register_matcher("oracle")
@dataclass(frozen=True)
class Oracle:
    """Matches by ground truth: an upper bound for diagnosis, never a result of the method.

    A cluster is matched to the other side's most similar cluster of the same majority identity; UNMATCHED where there
    is none.

    Args:
        supply: which side's clusters carry the labels of the other's.

    Raises:
        UserError: the prototypes come without identities.
    """

    supply: str = "visible"

    def __call__(self, prototypes: Prototypes) -> Matching:
        similarity = prototypes.visible @ prototypes.infrared.T
        if prototypes.identity_v is None or prototypes.identity_r is None:
            raise UserError(
                "MGOT.MATCHER.NAME 'oracle' needs ground-truth identities: choose 'otpa' for unlabelled data"
            )
        if not similarity.size:
            return _nothing_matched(similarity, self.supply)
        same = prototypes.identity_v[:, None] == prototypes.identity_r[None, :]
        scores = np.where(same, probability(similarity), 0.0)
        v2r = np.where(same.any(axis=1), np.where(same, similarity, -np.inf).argmax(axis=1), UNMATCHED)
        r2v = np.where(same.any(axis=0), np.where(same, similarity, -np.inf).argmax(axis=0), UNMATCHED)
        taken, n_demand = (v2r, len(r2v)) if self.supply == "visible" else (r2v, len(v2r))
        return Matching(v2r, r2v, scores, self.supply, np.setdiff1d(np.arange(n_demand), taken))


def _assign(scores: np.ndarray, opposite_transport: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(supply to demand, demand to supply, unassigned demand) for scores of shape (supply, demand)."""
    forward = scores.argmax(axis=1)
    takers = forward[:, None] == np.arange(scores.shape[1])[None, :]
    assigned = takers.any(axis=0)
    backward = np.where(takers, scores, -np.inf).argmax(axis=0)
    fallback = scores.argmax(axis=0) if opposite_transport else np.full(scores.shape[1], UNMATCHED)
    return forward, np.where(assigned, backward, fallback), np.flatnonzero(~assigned)


def _nothing_matched(similarity: np.ndarray, supply: str) -> Matching:
    n_v, n_r = similarity.shape
    demand = n_r if supply == "visible" else n_v
    return Matching(np.full(n_v, UNMATCHED), np.full(n_r, UNMATCHED), similarity, supply, np.arange(demand))


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
