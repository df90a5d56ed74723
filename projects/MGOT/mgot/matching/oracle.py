"""The matcher that knows the answer."""

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
from mgot.transport import probability


@register_matcher("oracle")
@dataclass(frozen=True)
class Oracle(SupplyMatcher):
    """Matches by ground truth: an upper bound for diagnosis, never a result of the method.

    A cluster is matched to the other side's most similar cluster of the same majority identity; UNMATCHED where there
    is none.

    Args:
        supply: which side's clusters carry the labels of the other's.

    Raises:
        UserError: the prototypes come without identities.
    """

    def match(self, prototypes: Prototypes) -> Matching:
        similarity = prototypes.similarity
        if prototypes.identity_v is None or prototypes.identity_r is None:
            raise UserError(
                "MGOT.MATCHER.NAME 'oracle' needs ground-truth identities: choose 'otpa' for unlabelled data"
            )
        same = prototypes.identity_v[:, None] == prototypes.identity_r[None, :]
        scores = np.where(same, probability(similarity), 0.0)
        v2r = np.where(same.any(axis=1), np.where(same, similarity, -np.inf).argmax(axis=1), UNMATCHED)
        r2v = np.where(same.any(axis=0), np.where(same, similarity, -np.inf).argmax(axis=0), UNMATCHED)
        return correspondence(v2r, r2v, scores, self.supply)
