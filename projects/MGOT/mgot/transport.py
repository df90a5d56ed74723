"""Optimal transport between two sets of prototypes, solved by POT.

POT takes a second to import, so the functions that need it do that.

Notation: S cosine similarity (K_a, K_b) in [-1, 1]; P = (S+1)/2; Q plan; alpha, beta marginals; lambda sharpness.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mgot.errors import UserError

_TINY = 1e-12
_LARGEST_EXPONENT = 600.0  # exp(-600) is still a float64


class TransportPlan(NamedTuple):
    """A plan that says how good it is.

    Attributes:
        plan: (K_a, K_b) non-negative float64.
        converged: the marginal errors are within the tolerance. For an unbalanced plan: it does not change any more.
        row_error: largest |row sum - alpha|, as a share of alpha.
        column_error: largest |column sum - beta|, as a share of beta.
        iterations: Sinkhorn iterations spent; of the stabilised solver its rounds, each of up to a hundred; of the
            exact one 0.
        solver: whose plan it is.
        failures: what was tried before it and did not converge, one line for each solver.
    """

    plan: np.ndarray
    converged: bool
    row_error: float
    column_error: float
    iterations: int
    solver: str = "log-domain solver"
    failures: tuple[str, ...] = ()

    @property
    def error(self) -> str:
        """How far its marginals are off, in words."""
        error = max(self.row_error, self.column_error)
        return f"{self.solver}: marginal error {error:.1e} after {self.iterations} iterations"


def probability(similarity: np.ndarray) -> np.ndarray:
    """P = (S+1)/2 in [0, 1] [paper]; cosine rounding outside [-1, 1] is clipped, NaN raises UserError."""
    similarity = np.asarray(similarity, dtype=np.float64)
    if similarity.ndim != 2:
        raise UserError(f"similarity must be a (K_a, K_b) matrix, not of shape {similarity.shape}")
    if not np.isfinite(similarity).all():
        raise UserError("similarity holds NaN or infinity: check the features of this epoch")
    return np.clip((similarity + 1.0) / 2.0, 0.0, 1.0)


def transport_cost(similarity: np.ndarray) -> np.ndarray:
    """-log P, with P bounded from below by 1e-12, so that the cost of opposite prototypes is large but finite."""
    return -np.log(np.maximum(probability(similarity), _TINY))


def exponential_cost(similarity: np.ndarray) -> np.ndarray:
    """exp(-S) in [1/e, e], as in PGM and RPNR; cosines rounded out of [-1, 1] are clipped; NaN is a UserError."""
    return np.exp(1.0 - 2.0 * probability(similarity))


CostOf = Callable[[np.ndarray], np.ndarray]
"""(K_a, K_b) similarities to costs, such as :func:`transport_cost`."""


def uniform_transport(
    similarity: np.ndarray,
    sharpness: float = 25.0,
    *,
    max_iterations: int = 2000,
    tolerance: float = 1e-3,
    cost_of: CostOf = transport_cost,
) -> TransportPlan:
    """Entropic optimal transport under a uniform prior.

        Q = argmin <Q, -log P> + (1/lambda) KL(Q || alpha beta^T),  Q 1 = alpha = 1/K_a,  Q^T 1 = beta = 1/K_b

    Source: docs/method.md section 5; the form and lambda = 25 are [OTLA], the uniform prior is [paper]. It is solved in
    the log domain, so no lambda underflows.

    Args:
        similarity: (K_a, K_b) cosine similarities in [-1, 1].
        sharpness: lambda > 0.
        max_iterations: bound on Sinkhorn's iterations, each O(K_a K_b).
        tolerance: relative marginal error at which the solver stops and counts as converged.
        cost_of: similarities -> the costs, in place of -log P.

    Returns:
        The plan. A side without prototypes gives an empty plan that counts as converged.

    Raises:
        UserError: lambda is not positive, or the similarity is not a finite matrix.
    """
    if not sharpness > 0:
        raise UserError(f"the transport's lambda must be positive, not {sharpness}")
    cost = cost_of(similarity)
    n_rows, n_columns = cost.shape
    if not cost.size:
        return TransportPlan(np.zeros(cost.shape), True, 0.0, 0.0, 0)
    import ot

    alpha, beta = np.full(n_rows, 1.0 / n_rows), np.full(n_columns, 1.0 / n_columns)
    # POT's word on convergence, and what overflows, is replaced by the measured errors below.
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore", UserWarning)
        plan, log = ot.sinkhorn(
            alpha,
            beta,
            cost,
            1.0 / sharpness,
            method="sinkhorn_log",
            numItermax=max_iterations,
            stopThr=tolerance / n_columns,  # POT bounds the norm of the column errors, which bounds the largest
            log=True,
        )
    return _described(plan, alpha, beta, tolerance, int(log["niter"]) + 1)  # POT numbers them from 0


def relaxed_transport(
    similarity: np.ndarray,
    sharpness: float = 25.0,
    relaxation: float = 0.1,
    *,
    max_iterations: int = 2000,
    tolerance: float = 1e-6,
) -> TransportPlan:
    """Unbalanced entropic transport: a prototype that fits nothing may send or receive less than its share.

        Q = argmin <Q, C> + (1/lambda) KL(Q || alpha beta^T) + rho (KL(Q 1 || alpha) + KL(Q^T 1 || beta))

    with uniform alpha and beta, and C = -log P minus its smallest entry: the best pair costs nothing, and the others
    are compared with it. Source: [ours]; solved by POT, with lambda C bounded by 600 against underflow.

    Args:
        similarity: (K_a, K_b) cosine similarities in [-1, 1].
        sharpness: lambda > 0.
        relaxation: rho > 0; towards infinity the plan becomes that of :func:`uniform_transport`.
        max_iterations: bound on Sinkhorn's iterations, each O(K_a K_b).
        tolerance: relative change of the scalings, at which the solver stops and counts as converged.

    Returns:
        The plan; its row and column errors are what the relaxation allowed, not a failure. A side without prototypes
        gives an empty plan that counts as converged.

    Raises:
        UserError: lambda or rho is not positive, or the similarity is not a finite matrix.
    """
    for name, value in (("lambda", sharpness), ("relaxation", relaxation)):
        if not value > 0:
            raise UserError(f"the transport's {name} must be positive, not {value}")
    cost = transport_cost(similarity)
    if not cost.size:
        return TransportPlan(np.zeros(cost.shape), True, 0.0, 0.0, 0)
    import ot

    alpha, beta = (np.full(n, 1.0 / n) for n in cost.shape)
    with warnings.catch_warnings():  # POT's word on convergence is in the plan's
        warnings.simplefilter("ignore", UserWarning)
        plan, log = ot.unbalanced.sinkhorn_unbalanced(
            alpha,
            beta,
            np.minimum(cost - cost.min(), _LARGEST_EXPONENT / sharpness),
            1.0 / sharpness,
            relaxation,
            reg_type="kl",  # POT 0.9.4's default is another
            method="sinkhorn",  # POT 0.9.7's sinkhorn_stabilized gives plans of mass 1e22 at lambda 100
            numItermax=max_iterations,
            stopThr=tolerance,
            log=True,
        )
    described = _described(plan, alpha, beta, np.inf, len(log["err"]))
    converged = described.converged and bool(log["err"][-1] <= tolerance)
    return described._replace(converged=converged, solver="unbalanced solver")


def settled_transport(
    similarity: np.ndarray, sharpness: float = 25.0, *, max_iterations: int = 2000, cost_of: CostOf = transport_cost
) -> TransportPlan:
    """:func:`uniform_transport`; if it does not converge, POT's stabilised solver; if that fails too, the exact plan.

    The stabilised solver lowers the regularisation step by step, in as many steps, POT's 35 at least. The exact plan,
    lambda -> infinity, always exists. Source: [ours]. Arguments and errors are those of :func:`uniform_transport`.
    """
    plan = uniform_transport(similarity, sharpness, max_iterations=max_iterations, cost_of=cost_of)
    if plan.converged:
        return plan
    stabilised = _stabilised_transport(cost_of(similarity), sharpness, max_iterations)
    if stabilised.converged:
        return stabilised._replace(failures=(plan.error,))
    return exact_transport(similarity, cost_of)._replace(failures=(plan.error, stabilised.error))


def _stabilised_transport(cost: np.ndarray, sharpness: float, max_iterations: int) -> TransportPlan:
    import ot

    alpha, beta = (np.full(n, 1.0 / n) for n in cost.shape)
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # what overflows shows in the measured errors
        warnings.simplefilter("ignore")
        plan, log = ot.sinkhorn(
            alpha,
            beta,
            cost,
            1.0 / sharpness,
            method="sinkhorn_epsilon_scaling",
            numItermax=max_iterations,
            log=True,
        )
    rounds = int(log["niter"]) + 1  # POT numbers them from 0
    return _described(plan, alpha, beta, 1e-3, rounds)._replace(solver="stabilised solver")


def exact_transport(similarity: np.ndarray, cost_of: CostOf = transport_cost) -> TransportPlan:
    """The limit lambda -> infinity of :func:`uniform_transport`, by POT's network simplex."""
    cost = cost_of(similarity)
    n_rows, n_columns = cost.shape
    if not cost.size:
        return TransportPlan(np.zeros(cost.shape), True, 0.0, 0.0, 0)
    import ot

    alpha, beta = np.full(n_rows, 1.0 / n_rows), np.full(n_columns, 1.0 / n_columns)
    plan = _described(ot.emd(alpha, beta, cost), alpha, beta, tolerance=1e-6, iterations=0)
    return plan._replace(solver="exact solver")


def _described(
    plan: np.ndarray, alpha: np.ndarray, beta: np.ndarray, tolerance: float, iterations: int
) -> TransportPlan:
    plan = np.asarray(plan, dtype=np.float64)
    row_error = float(np.abs(plan.sum(axis=1) - alpha).max() / alpha[0])
    column_error = float(np.abs(plan.sum(axis=0) - beta).max() / beta[0])
    converged = bool(np.isfinite(plan).all() and max(row_error, column_error) <= tolerance)
    return TransportPlan(plan, converged, row_error, column_error, iterations)
