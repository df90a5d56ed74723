"""Matching by unbalanced transport: clusters may stay unmatched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgot.errors import UserError
from mgot.matching.base import (
    UNMATCHED,
    Matching,
    Prototypes,
    SupplyMatcher,
    correspondence,
    register_matcher,
)
from mgot.transport import relaxed_transport


@register_matcher("unbalanced")
@dataclass(frozen=True)
class Unbalanced(SupplyMatcher):
    """Unbalanced transport, for modalities with different people.

        Q = :func:`mgot.transport.relaxed_transport`, whose marginals may fall short of the uniform ones
        v2r[i] = argmax_j Q_ij if row i carries at least min_mass times the mean mass of the rows, else UNMATCHED
        r2v[j] = argmax_i Q_ij by the same rule on the columns

    Source: [ours].

    Args:
        sharpness: lambda.
        relaxation: rho; the smaller it is, the cheaper it is to leave a cluster unmatched.
        min_mass: in [0, 1); 0 matches every cluster.
        supply: the other modality's clusters index the shared label space.
        max_iterations: bound on Sinkhorn's iterations.

    A side without clusters leaves the other UNMATCHED; otherwise at least one cluster of each side is matched.

    Raises:
        UserError: a number is out of its range.
    """

    sharpness: float = 25.0
    relaxation: float = 0.1
    min_mass: float = 0.5
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min_mass < 1:
            raise UserError(f"the least mass must be 0 or more and less than 1, not {self.min_mass}")

    def match(self, prototypes: Prototypes) -> Matching:
        similarity = prototypes.similarity
        solved = relaxed_transport(similarity, self.sharpness, self.relaxation, max_iterations=self.max_iterations)
        v2r, r2v = _heavy(solved.plan, self.min_mass), _heavy(solved.plan.T, self.min_mass)
        return correspondence(v2r, r2v, solved.plan, self.supply, solved)


def _heavy(plan: np.ndarray, min_mass: float) -> np.ndarray:
    """Each row's argmax, UNMATCHED if its mass is below that share of the rows' mean."""
    mass = plan.sum(axis=1)
    return np.where(mass >= min_mass * mass.mean(), plan.argmax(axis=1), UNMATCHED)
