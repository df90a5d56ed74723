"""Matchers that take an argmax in both directions: with a transport plan, and without one."""

from __future__ import annotations

from dataclasses import dataclass

from mgot.matching.base import (
    Matching,
    Prototypes,
    SupplyMatcher,
    argmax_both_ways,
    register_matcher,
)
from mgot.transport import probability, settled_transport


@register_matcher("sinkhorn")
@dataclass(frozen=True)
class Sinkhorn(SupplyMatcher):
    """The transport plan's argmax in both directions, without repair.

        v2r[i] = argmax_j Q_ij;   r2v[j] = argmax_i Q_ij

    with the Q of :func:`mgot.transport.settled_transport`. The difference from OTPA is the way back: a demand cluster
    considers all supply clusters, not only those that took it. Source: [field], RPNR's setting.

    Args:
        sharpness: lambda.
        supply: the other modality's clusters index the shared label space.
        max_iterations: bound on Sinkhorn's iterations.

    A side without clusters leaves the other UNMATCHED; otherwise every cluster of both sides is matched.
    """

    sharpness: float = 25.0
    max_iterations: int = 2000

    def match(self, prototypes: Prototypes) -> Matching:
        similarity = prototypes.similarity
        plan = settled_transport(similarity, self.sharpness, max_iterations=self.max_iterations)
        return argmax_both_ways(plan.plan, self.supply, plan)


@register_matcher("nearest")
@dataclass(frozen=True)
class Nearest(SupplyMatcher):
    """Each cluster takes its most similar one of the other modality, independently of the others.

        v2r[i] = argmax_j P_ij;   r2v[j] = argmax_i P_ij

    The degraded solution of the paper's Fig. 3, in both directions [paper].

    Args:
        supply: the other modality's clusters index the shared label space.

    A side without clusters leaves the other UNMATCHED; otherwise every cluster of both sides is matched.
    """

    def match(self, prototypes: Prototypes) -> Matching:
        return argmax_both_ways(probability(prototypes.similarity), self.supply)
