"""OTPA, the matcher of the method: optimal transport under a uniform prior, and the opposite transport.

Notation: S = Phi_v Phi_r^T; P = (S+1)/2; Q transport plan; K_v, K_r clusters of each modality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgot.matching.base import UNMATCHED, Matching, Prototypes, SupplyMatcher, correspondence, register_matcher
from mgot.transport import probability, settled_transport


@register_matcher("otpa")
@dataclass(frozen=True)
class OTPA(SupplyMatcher):
    """Optimal transport prototype assignment.

        Q = the entropic transport of P = (S+1)/2 under uniform marginals (:func:`mgot.transport.settled_transport`)
        v2r[i] = argmax_j Q_ij
        r2v[j] = argmax over {i : v2r[i] = j} of Q_ij; over all i if that set is empty: the opposite transport

    written for visible supply and mirrored where infrared supplies. Source: docs/method.md section 5, [paper] Fig. 3;
    the choice of the supply is [ours].

    Args:
        sharpness: lambda.
        uniform_prior: False takes the argmax of P without a transport: the degraded solution of Fig. 3.
        opposite_transport: False leaves demand clusters that no supply cluster took UNMATCHED.
        supply: "visible" or "infrared".
        max_iterations: bound on Sinkhorn's iterations.

    A side without clusters leaves the other UNMATCHED; otherwise, with the opposite transport, every cluster of both
    sides is matched.
    """

    sharpness: float = 25.0
    uniform_prior: bool = True
    opposite_transport: bool = True
    max_iterations: int = 2000

    def match(self, prototypes: Prototypes) -> Matching:
        similarity = prototypes.similarity
        plan = None
        if self.uniform_prior:
            plan = settled_transport(similarity, self.sharpness, max_iterations=self.max_iterations)
        scores = probability(similarity) if plan is None else plan.plan
        if self.supply == "visible":
            v2r, r2v = _assign(scores, self.opposite_transport)
        else:
            r2v, v2r = _assign(scores.T, self.opposite_transport)
        return correspondence(v2r, r2v, scores, self.supply, plan)


def _assign(scores: np.ndarray, opposite_transport: bool) -> tuple[np.ndarray, np.ndarray]:
    """(supply to demand, demand to supply) for scores of shape (supply, demand)."""
    forward = scores.argmax(axis=1)
    takers = forward[:, None] == np.arange(scores.shape[1])[None, :]
    assigned = takers.any(axis=0)
    backward = np.where(takers, scores, -np.inf).argmax(axis=0)
    fallback = scores.argmax(axis=0) if opposite_transport else np.full(scores.shape[1], UNMATCHED)
    return forward, np.where(assigned, backward, fallback)
