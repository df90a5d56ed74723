"""The belief in each match: a weight in [0, 1] for each cluster, found without labels.

Notation: S similarity of prototypes, Q what the matcher chose from (the plan), tau temperature. :func:`register_belief`
adds a belief, and MGOT.BELIEF.NAME chooses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from mgot.matching.base import UNMATCHED, Matching, Prototypes
from mgot.registry import Registry


class Belief(NamedTuple):
    """Weights of the cross-modality terms: (K_v,) and (K_r,), in [0, 1]; 0 if a cluster is unmatched."""

    visible: np.ndarray
    infrared: np.ndarray

    def mean(self) -> float:
        """The mean over the clusters of both modalities; 0 if there is none."""
        both = np.concatenate(self)
        return float(both.mean()) if len(both) else 0.0


PairWeights = Callable[[Prototypes, Matching, float], np.ndarray]
"""Prototypes, their matching and tau to (K_v, K_r) weights in [0, 1] of all pairs."""

BELIEFS: Registry[PairWeights] = Registry("belief")
register_belief = BELIEFS.register
"""Decorator: register a belief under a name, the value of the key MGOT.BELIEF.NAME."""


def believe(
    name: str, prototypes: Prototypes, matching: Matching, temperature: float = 0.05, power: float = 1.0
) -> Belief:
    """The belief in each cluster's match.

        b_v[i] = w[i, v2r[i]]^power;   b_r[j] = w[r2v[j], j]^power

    Args:
        name: of a registered belief, which gives w.
        prototypes, matching: of the epoch.
        temperature: tau.
        power: 0 or more; with 0 every match has the belief 1.

    Returns:
        Weights in [0, 1]; 0 for clusters without a match, and no rows for a modality without clusters.
    """
    n_v, n_r = matching.scores.shape
    if not n_v or not n_r:
        return Belief(np.zeros(n_v), np.zeros(n_r))
    weights = np.clip(BELIEFS[name](prototypes, matching, temperature), 0.0, 1.0) ** power
    visible = np.where(matching.v2r == UNMATCHED, 0.0, weights[np.arange(n_v), matching.v2r])
    infrared = np.where(matching.r2v == UNMATCHED, 0.0, weights[matching.r2v, np.arange(n_r)])
    return Belief(visible, infrared)


@register_belief("full")
def full(prototypes: Prototypes, matching: Matching, temperature: float) -> np.ndarray:
    """Every match has the weight 1: the plain form [paper]."""
    return np.ones(matching.scores.shape)


@register_belief("share")
def share(prototypes: Prototypes, matching: Matching, temperature: float) -> np.ndarray:
    """The pair's share of the mass of its row and of its column: w_ij = sqrt(Q_ij / Q_i. * Q_ij / Q_.j) [ours].

    Clusters of one modality that share a match share its mass: n of them have at most 1 / sqrt(n) each.
    """
    mass = np.maximum(matching.scores, 0.0)
    rows, columns = mass.sum(axis=1, keepdims=True), mass.sum(axis=0, keepdims=True)
    return np.sqrt(mass / np.where(rows > 0, rows, 1.0) * mass / np.where(columns > 0, columns, 1.0))


@register_belief("mutual")
def mutual(prototypes: Prototypes, matching: Matching, temperature: float) -> np.ndarray:
    """How surely both clusters choose each other: w_ij = softmax_j(S_ij / tau) softmax_i(S_ij / tau) [ours].

    Clusters of one modality that share a match divide its second factor: n equal ones have at most 1 / n each.
    """
    logits = prototypes.similarity.astype(np.float64) / temperature
    return softmax(logits, axis=1) * softmax(logits, axis=0)
