"""Progressive graph matching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgot.matching.base import Matching, Prototypes, SupplyMatcher, correspondence, register_matcher
from mgot.matching.hungarian import assigned
from mgot.transport import exponential_cost


@register_matcher("pgm")
@dataclass(frozen=True)
class PGM(SupplyMatcher):
    """Linear assignment of the cost exp(-S), repeated for the clusters that are left over.

        a pass: the one-to-one pairs of the open clusters of the larger side and all of the smaller side that
        minimise the sum of exp(-S_ij)

    In a later pass, clusters of the larger side are matched to clusters that are taken already. These keep their match
    of the first pass. With the exponential, a pair that fits badly costs more than with `hungarian`. Source: [PGM],
    its code has two passes, and matches nothing if there are more infrared clusters than visible ones.

    Args:
        supply: the other modality's clusters index the shared label space.

    A side without clusters leaves the other UNMATCHED; otherwise every cluster of both sides is matched.
    """

    def match(self, prototypes: Prototypes) -> Matching:
        cost = exponential_cost(prototypes.similarity)
        v2r, r2v = assigned(-cost)
        return correspondence(v2r, r2v, np.reciprocal(cost), self.supply)
