"""Optimal transport of an exponential cost, with a nearly even plan."""

from __future__ import annotations

from dataclasses import dataclass

from mgot.errors import UserError
from mgot.matching.base import Matching, Prototypes, SupplyMatcher, argmax_both_ways, register_matcher
from mgot.transport import exponential_cost, settled_transport


@register_matcher("rpnr")
@dataclass(frozen=True)
class RPNR(SupplyMatcher):
    """The argmax in both directions of a transport plan with the cost exp(-S).

        Q = argmin <Q, exp(-S)> + reg KL(Q || alpha beta^T),  uniform alpha and beta
        v2r[i] = argmax_j Q_ij;   r2v[j] = argmax_i Q_ij

    reg = 5 is more than the range of the cost, so Q is nearly even. What decides is a pair's cost compared with the
    mean cost of its row and of its column. Source: [RPNR].

    Args:
        regularisation: reg > 0.
        supply: the other modality's clusters index the shared label space.
        max_iterations: bound on Sinkhorn's iterations.

    A side without clusters leaves the other UNMATCHED; otherwise every cluster of both sides is matched.

    Raises:
        UserError: the regularisation is not positive.
    """

    regularisation: float = 5.0
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.regularisation > 0:
            raise UserError(f"the transport's regularisation must be positive, not {self.regularisation}")

    def match(self, prototypes: Prototypes) -> Matching:
        plan = settled_transport(
            prototypes.similarity,
            1.0 / self.regularisation,
            max_iterations=self.max_iterations,
            cost_of=exponential_cost,
        )
        return argmax_both_ways(plan.plan, self.supply, plan)
