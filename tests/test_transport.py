"""Transport: marginals, agreement with the exact solver, honesty about convergence."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mgot import transport
from mgot.errors import UserError
from mgot.transport import (
    CostOf,
    TransportPlan,
    exact_transport,
    exponential_cost,
    probability,
    relaxed_transport,
    settled_transport,
    transport_cost,
    uniform_transport,
)


def similarity(n: int, m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, m))


@settings(max_examples=50, deadline=None)
@given(
    s=st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-1, 1))
    ),
    sharpness=st.sampled_from([1.0, 5.0, 25.0]),
)
def test_plan_is_non_negative_and_its_errors_are_those_of_its_marginals(s: np.ndarray, sharpness: float) -> None:
    result = uniform_transport(s, sharpness, max_iterations=500)
    n, m = s.shape
    assert (result.plan >= 0).all() and np.isfinite(result.plan).all()
    assert result.row_error == pytest.approx(np.abs(result.plan.sum(1) * n - 1).max(), abs=1e-12)
    assert result.column_error == pytest.approx(np.abs(result.plan.sum(0) * m - 1).max(), abs=1e-12)
    assert result.converged == (max(result.row_error, result.column_error) <= 1e-3)


@pytest.mark.parametrize("shape", [(7, 7), (12, 5), (5, 12)])
def test_marginals_are_uniform_at_the_default_lambda(shape: tuple[int, int]) -> None:
    result = uniform_transport(similarity(*shape), max_iterations=200_000, tolerance=1e-6)
    assert result.converged
    np.testing.assert_allclose(result.plan.sum(1), 1 / shape[0], rtol=1e-6)
    np.testing.assert_allclose(result.plan.sum(0), 1 / shape[1], rtol=1e-6)


def test_cost_approaches_the_exact_solvers_as_lambda_grows() -> None:
    s = similarity(8, 6, 3)
    cost, exact = transport_cost(s), exact_transport(s)
    optimum = (exact.plan * cost).sum()
    gaps = [
        (uniform_transport(s, lam, max_iterations=50_000, tolerance=1e-9).plan * cost).sum() - optimum
        for lam in (5, 25, 125, 625)
    ]
    assert all(later < earlier for earlier, later in itertools.pairwise(gaps))
    assert gaps[-1] == pytest.approx(0, abs=1e-3)


def test_plan_solves_the_stated_problem() -> None:
    """Q = diag(u) P^lambda diag(v) is the optimality condition: log Q - lambda log P has rank-one structure."""
    s, lam = similarity(5, 4, 1), 10.0
    table = np.log(uniform_transport(s, lam, max_iterations=20_000, tolerance=1e-9).plan) + lam * transport_cost(s)
    residue = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    np.testing.assert_allclose(residue, 0, atol=1e-6)


def test_too_few_iterations_are_admitted() -> None:
    result = uniform_transport(similarity(30, 20), 500.0, max_iterations=1)
    assert not result.converged and max(result.row_error, result.column_error) > 1e-3


Solver = Callable[..., TransportPlan]


@pytest.mark.parametrize("solve", [uniform_transport, relaxed_transport, settled_transport, exact_transport])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_an_empty_side_gives_an_empty_plan_that_counts_as_converged(solve: Solver, shape: tuple[int, int]) -> None:
    result = solve(np.zeros(shape))
    assert result.plan.shape == shape and result.converged
    assert (result.row_error, result.column_error, result.iterations, result.failures) == (0.0, 0.0, 0, ())


@pytest.mark.parametrize("solve", [uniform_transport, relaxed_transport])
def test_iterations_are_those_that_the_plan_took(solve: Solver) -> None:
    s = similarity(9, 6)
    result = solve(s)
    assert result.converged and 1 < result.iterations < 2000
    assert np.array_equal(solve(s, max_iterations=result.iterations).plan, result.plan)
    fewer = solve(s, max_iterations=result.iterations - 1)
    assert fewer.iterations == result.iterations - 1 and not np.array_equal(fewer.plan, result.plan)


@pytest.mark.parametrize("cost_of", [transport_cost, exponential_cost])
def test_a_transport_is_settled_by_the_first_solver_that_converges(
    cost_of: CostOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = similarity(5, 4, 1)
    solved = uniform_transport(s, max_iterations=20_000, tolerance=1e-8, cost_of=cost_of)
    first = settled_transport(s, cost_of=cost_of)
    assert first.failures == () and np.array_equal(first.plan, uniform_transport(s, cost_of=cost_of).plan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = settled_transport(s, max_iterations=1, cost_of=cost_of)
    assert second.converged and second.solver == "stabilised solver"
    np.testing.assert_allclose(second.plan, solved.plan, atol=1e-5)
    monkeypatch.setattr(transport, "_stabilised_transport", lambda *_: second._replace(converged=False, iterations=1))
    third = settled_transport(s, max_iterations=1, cost_of=cost_of)
    assert third.solver == "exact solver" and np.array_equal(third.plan, exact_transport(s, cost_of).plan)
    assert second.failures == third.failures[:1]
    for line, solver in zip(third.failures, ("log-domain solver", "stabilised solver"), strict=True):
        assert re.fullmatch(rf"{solver}: marginal error \S+ after \d+ iterations", line)
    assert third.failures[0].endswith(" after 1 iterations")


@pytest.mark.parametrize(("off", "converged"), [(1.0005, True), (1.01, False)])
def test_a_stabilised_plan_may_be_off_by_a_thousandth(
    off: float, converged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ot.sinkhorn", lambda a, b, *_, **__: (off * np.outer(a, b), {"niter": 0}))
    assert transport._stabilised_transport(np.ones((3, 2)), 25.0, 9).converged == converged


def test_the_bound_on_iterations_reaches_both_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[int] = []
    solve = ot.sinkhorn

    def noted(*args: object, numItermax: int, **keys: object) -> object:
        bounds.append(numItermax)
        return solve(*args, numItermax=numItermax, **keys)

    monkeypatch.setattr(ot, "sinkhorn", noted)
    plan = settled_transport(similarity(5, 4, 1), max_iterations=1)
    assert bounds == [1, 1] and plan.solver == "stabilised solver"
    assert plan.iterations > 30, "POT goes on for its least number of rounds, and the plan says so"


def test_lambda_and_the_cost_reach_each_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    s = similarity(5, 4, 4)
    exact = exact_transport(s, exponential_cost).plan
    assert not np.array_equal(exact, exact_transport(s).plan)
    assert np.array_equal(settled_transport(s, 5.0).plan, uniform_transport(s, 5.0).plan)
    unsettled = uniform_transport(s)._replace(converged=False)
    monkeypatch.setattr(transport, "_stabilised_transport", lambda *_: unsettled)
    last = settled_transport(s, max_iterations=1, cost_of=exponential_cost)
    assert np.array_equal(last.plan, exact) and (last.converged, last.iterations) == (True, 0)
    monkeypatch.setattr("ot.emd", lambda a, b, _: 1.0001 * np.outer(a, b))
    assert not exact_transport(s).converged


def test_the_exponential_cost_falls_with_the_cosine() -> None:
    s = similarity(4, 3)
    np.testing.assert_allclose(exponential_cost(s), np.exp(-s))
    np.testing.assert_allclose(exponential_cost(np.array([[1.0000001, -1.0000001]])), [[1 / np.e, np.e]])


def test_opposite_prototypes_stay_finite() -> None:
    assert np.isfinite(uniform_transport(np.full((3, 3), -1.0)).plan).all()
    np.testing.assert_array_equal(probability(np.array([[1.0000001, -1.0000001]])), [[1.0, 0.0]])


@pytest.mark.parametrize("bad", [np.full((2, 2), np.nan), np.zeros(3)])
def test_unusable_similarities_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match="similarity"):
        uniform_transport(bad)


@pytest.mark.parametrize("solve", [uniform_transport, relaxed_transport])
@pytest.mark.parametrize("sharpness", [0.0, -1.0, float("nan")])
def test_lambda_must_be_positive(solve: Solver, sharpness: float) -> None:
    with pytest.raises(UserError, match="the transport's lambda must be positive"):
        solve(similarity(2, 2), sharpness)


def _unbalanced_reference(
    cost: np.ndarray, alpha: np.ndarray, beta: np.ndarray, sharpness: float, relaxation: float
) -> np.ndarray:
    """The scalings of unbalanced Sinkhorn, one logarithm at a time."""
    n, m = cost.shape
    f, g, share = np.zeros(n), np.zeros(m), relaxation / (relaxation + 1 / sharpness)
    kernel = -sharpness * cost + np.log(alpha)[:, None] + np.log(beta)[None, :]
    for _ in range(3000):
        for i in range(n):
            f[i] = share * (np.log(alpha[i]) - np.logaddexp.reduce(kernel[i] + g))
        for j in range(m):
            g[j] = share * (np.log(beta[j]) - np.logaddexp.reduce(kernel[:, j] + f))
    return np.exp(kernel + f[:, None] + g[None, :])


@pytest.mark.parametrize(("sharpness", "relaxation"), [(5.0, 0.1), (25.0, 0.1), (100.0, 0.05)])
def test_relaxed_plan_is_the_plain_iterations(sharpness: float, relaxation: float) -> None:
    s = similarity(6, 4, 2)
    result = relaxed_transport(s, sharpness, relaxation, tolerance=1e-10)
    cost = transport_cost(s)
    expected = _unbalanced_reference(cost - cost.min(), np.full(6, 1 / 6), np.full(4, 1 / 4), sharpness, relaxation)
    np.testing.assert_allclose(result.plan, expected, rtol=1e-5, atol=1e-12)
    assert result.converged and result.row_error > 0.01
    if (sharpness, relaxation) == (25.0, 0.1):
        np.testing.assert_allclose(relaxed_transport(s).plan, expected, rtol=1e-3, atol=1e-12)


def test_relaxed_plan_approaches_the_uniform_one() -> None:
    s = similarity(5, 4, 7) * 0.4 + 0.5
    dear = relaxed_transport(s, 25.0, 500.0, max_iterations=10_000, tolerance=1e-9)
    np.testing.assert_allclose(dear.plan, uniform_transport(s, tolerance=1e-8).plan, atol=1e-4)


def test_relaxed_plan_of_a_stranger_is_finite_and_light() -> None:
    s = np.array([[0.9, 0.1], [-1.0, -1.0]])
    for sharpness, share in ((25.0, 1e-3), (1000.0, 0.1)):
        mass = relaxed_transport(s, sharpness).plan.sum(1)
        assert np.isfinite(mass).all() and mass[1] < share * mass[0]


def test_relaxed_transport_admits_and_refuses() -> None:
    assert not relaxed_transport(similarity(9, 9), 25.0, 1e6, max_iterations=2).converged
    assert relaxed_transport(np.zeros((0, 2))).plan.shape == (0, 2)
    with pytest.raises(UserError, match="the transport's relaxation must be positive"):
        relaxed_transport(similarity(2, 2), 25.0, 0.0)
