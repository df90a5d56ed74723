"""Matching by linear assignment, pass after pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from mgot.matching.base import (
    UNMATCHED,
    Matching,
    Prototypes,
    SupplyMatcher,
    correspondence,
    register_matcher,
)
from mgot.transport import probability


@register_matcher("hungarian")
@dataclass(frozen=True)
class Hungarian(SupplyMatcher):
    """Linear assignment, repeated for the clusters that are left over.

        a pass: the one-to-one pairs of the open clusters of the larger side and all of the smaller side that
        maximise the sum of P

    The first pass matches the whole smaller side. Each later pass matches the same number of clusters that are left of
    the larger side, until none is left. This works for any K_v : K_r. Source: [field], PGM's idea of progressive graph
    matching.

    Args:
        supply: the other modality's clusters index the shared label space.

    A side without clusters leaves the other UNMATCHED; otherwise every cluster of both sides is matched.
    """

    def match(self, prototypes: Prototypes) -> Matching:
        scores = probability(prototypes.similarity)
        v2r, r2v = assigned(scores)
        return correspondence(v2r, r2v, scores, self.supply)


def assigned(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(v2r, r2v) by passes of linear assignment that maximise (K_v, K_r) scores, until every cluster has a match."""
    if scores.shape[0] >= scores.shape[1]:
        return _passes(scores)
    r2v, v2r = _passes(scores.T)
    return v2r, r2v


def _passes(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(larger to smaller, smaller to larger) for scores of shape (larger, smaller)."""
    forward, backward = (np.full(n, UNMATCHED) for n in scores.shape)
    while (left := np.flatnonzero(forward == UNMATCHED)).size:
        rows, columns = linear_sum_assignment(scores[left], maximize=True)
        forward[left[rows]] = columns
        first = backward[columns] == UNMATCHED
        backward[columns[first]] = left[rows[first]]
    return forward, backward
