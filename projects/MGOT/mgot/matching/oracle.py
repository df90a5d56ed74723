"""The matcher that knows the answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgot.matching.base import (
    UNMATCHED,
    Matching,
    OracleMatcher,
    Prototypes,
    Supplied,
    correspondence,
    nothing_matched,
    register_matcher,
)
from mgot.transport import probability
from mgot.truth import Truth, require_known


@register_matcher("oracle")
@dataclass(frozen=True)
class Oracle(Supplied, OracleMatcher):
    """Matches by ground truth: an upper bound for diagnosis, never a result of the method.

    A cluster is matched to the other side's most similar cluster of the same majority identity; UNMATCHED if there is
    none.

    Args:
        supply: the side whose clusters get the labels of the other side.

    Raises:
        UserError: an identity is not known.
    """

    def __call__(self, prototypes: Prototypes, truth: Truth) -> Matching:
        similarity = prototypes.similarity
        if not similarity.size:
            return nothing_matched(prototypes, self.supply)
        for identities in truth:
            require_known(identities, "MGOT.MATCHER.NAME 'oracle'")
        same = truth.visible[:, None] == truth.infrared[None, :]
        scores = np.where(same, probability(similarity), 0.0)
        v2r = np.where(same.any(axis=1), np.where(same, similarity, -np.inf).argmax(axis=1), UNMATCHED)
        r2v = np.where(same.any(axis=0), np.where(same, similarity, -np.inf).argmax(axis=0), UNMATCHED)
        return correspondence(v2r, r2v, scores, self.supply)
