"""OTPA on hand-made matrices, and properties of every matcher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mgot.errors import UserError
from mgot.matching import (
    MATCHERS,
    OTPA,
    UNMATCHED,
    Matching,
    Oracle,
    Prototypes,
    cross_labels,
    cross_prototypes,
    register_matcher,
)
from mgot.transport import TransportPlan, settled_transport
from mgot.truth import Truth
from tests.test_matchers import unit


def from_similarity(s: np.ndarray) -> Prototypes:
    """Prototypes whose cosine similarities are ``s``: infrared rows are the axes, visible rows hold s."""
    n_r = s.shape[1]
    rest = np.sqrt(np.maximum(1 - (s**2).sum(1, keepdims=True), 0))
    assert (np.abs(np.linalg.norm(np.hstack([s, rest]), axis=1) - 1) < 1e-9).all()
    return Prototypes(np.hstack([s, rest]), np.eye(n_r, n_r + 1))


EQUAL = np.array([[0.6, 0.1, 0.0], [0.1, 0.6, 0.0], [0.0, 0.1, 0.6]])
MORE_SUPPLY = np.array([[0.6, 0.1], [0.5, 0.1], [0.1, 0.6], [0.1, 0.5]])
FEWER_SUPPLY = MORE_SUPPLY.T
# Infrared cluster 0 attracts everyone; only the prior sends visible 1 and 2 home.
HUB = np.array([[0.70, 0.10, 0.10], [0.60, 0.55, 0.10], [0.60, 0.10, 0.55]])


def test_as_many_supply_as_demand() -> None:
    matching = OTPA()(from_similarity(EQUAL))
    assert matching.v2r.tolist() == [0, 1, 2] and matching.r2v.tolist() == [0, 1, 2]
    assert matching.unassigned.size == 0 and matching.transport is not None and matching.transport.converged


def test_more_supply_than_demand_shares_the_demand() -> None:
    matching = OTPA()(from_similarity(MORE_SUPPLY))
    assert matching.v2r.tolist() == [0, 0, 1, 1]
    assert matching.r2v[0] in (0, 1) and matching.r2v[1] in (2, 3)
    assert matching.r2v.tolist() == [
        int(np.argmax(np.where(matching.v2r == j, matching.scores[:, j], -1))) for j in (0, 1)
    ]


def test_fewer_supply_than_demand_is_repaired_by_the_opposite_transport() -> None:
    matching = OTPA()(from_similarity(FEWER_SUPPLY))
    assert matching.unassigned.size == 2
    assert matching.r2v.tolist() == [0, 0, 1, 1]


def test_without_the_repair_the_unassigned_stay_unmatched() -> None:
    matching = OTPA(opposite_transport=False)(from_similarity(FEWER_SUPPLY))
    assert (matching.r2v[matching.unassigned] == UNMATCHED).all() and matching.unassigned.size == 2


def test_a_taken_cluster_looks_among_its_takers() -> None:
    """Visible 0 is nearest to both infrared clusters, and takes the second: the first belongs to visible 1."""
    matching = OTPA(uniform_prior=False)(from_similarity(np.array([[0.5, 0.6], [0.4, 0.1]])))
    assert matching.v2r.tolist() == [1, 0] and matching.r2v.tolist() == [1, 0]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans(), st.floats(1.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_otpa_is_the_plain_loop_over_the_plan_of_its_settings(
    n_v: int, n_r: int, seed: int, prior: bool, sharpness: float
) -> None:
    rng = np.random.default_rng(seed)
    v, r = unit(rng, n_v, 4), unit(rng, n_r, 4)
    matching = OTPA(sharpness=sharpness, uniform_prior=prior)(Prototypes(v, r))
    scores = settled_transport(v @ r.T, sharpness).plan if prior else (v @ r.T + 1) / 2
    np.testing.assert_allclose(matching.scores, scores, rtol=1e-5)
    for i in range(n_v):
        assert matching.v2r[i] == scores[i].argmax()
    for j in range(n_r):
        takers = [i for i in range(n_v) if matching.v2r[i] == j]
        assert matching.r2v[j] == max(takers or range(n_v), key=lambda i: scores[i, j])
        assert (j in matching.unassigned) == (not takers)


def test_the_bound_on_iterations_reaches_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    given_bounds: list[int] = []

    def noted(similarity: np.ndarray, sharpness: float, *, max_iterations: int) -> TransportPlan:
        given_bounds.append(max_iterations)
        return settled_transport(similarity, sharpness, max_iterations=max_iterations)

    monkeypatch.setattr("mgot.matching.otpa.settled_transport", noted)
    OTPA(max_iterations=7)(from_similarity(HUB))
    assert given_bounds == [7]


def test_the_prior_prevents_the_collapse_that_its_absence_shows() -> None:
    collapsed = OTPA(uniform_prior=False)(from_similarity(HUB))
    assert collapsed.v2r.tolist() == [0, 0, 0] and collapsed.unassigned.tolist() == [1, 2]
    assert collapsed.transport is None
    assert OTPA()(from_similarity(HUB)).v2r.tolist() == [0, 1, 2]


def test_infrared_supply_is_the_mirror_image() -> None:
    forward = OTPA()(from_similarity(MORE_SUPPLY))
    swapped = from_similarity(MORE_SUPPLY)
    mirrored = OTPA(supply="infrared")(Prototypes(swapped.infrared, swapped.visible))
    assert mirrored.r2v.tolist() == forward.v2r.tolist() and mirrored.v2r.tolist() == forward.r2v.tolist()
    c_v, c_r = cross_labels(mirrored)
    assert c_v.tolist() == [0, 1] and c_r.tolist() == mirrored.r2v.tolist()


@settings(max_examples=60, deadline=None)
@given(
    n_v=st.integers(1, 12),
    n_r=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    prior=st.booleans(),
    supply=st.sampled_from(["visible", "infrared"]),
    duplicates=st.booleans(),
)
def test_every_prototype_of_both_modalities_is_matched(
    n_v: int, n_r: int, seed: int, prior: bool, supply: str, duplicates: bool
) -> None:
    rng = np.random.default_rng(seed)
    phi_v, phi_r = unit(rng, n_v, 3), unit(rng, n_r, 3)
    if duplicates:
        phi_v[:] = phi_v[0]
    prototypes = Prototypes(phi_v, phi_r)
    matching = OTPA(uniform_prior=prior, supply=supply, max_iterations=200)(prototypes)
    assert matching.v2r.shape == (n_v,) and matching.r2v.shape == (n_r,)
    assert ((matching.v2r >= 0) & (matching.v2r < n_r)).all()
    assert ((matching.r2v >= 0) & (matching.r2v < n_v)).all()
    c_v, c_r = cross_labels(matching)
    phi_c = cross_prototypes(torch.tensor(prototypes.visible), torch.tensor(prototypes.infrared), matching)
    assert max(c_v.max(), c_r.max()) < len(phi_c)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_missing_modality_leaves_the_other_unmatched(shape: tuple[int, int]) -> None:
    matching = OTPA()(Prototypes(np.ones((shape[0], 4)), np.ones((shape[1], 4))))
    assert (matching.v2r == UNMATCHED).all() and (matching.r2v == UNMATCHED).all()


def test_cross_prototypes_average_demand_takers_and_repairs() -> None:
    matching = Matching(
        v2r=np.array([0, 0, 2]), r2v=np.array([0, 1, 2]), scores=np.zeros((3, 3)), supply="visible",
        unassigned=np.array([1]),
    )  # fmt: skip
    phi_v = F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    phi_r = F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    expected = torch.stack(
        [
            F.normalize((phi_r[0] + phi_v[0] + phi_v[1]) / 3, dim=0),
            F.normalize((phi_r[1] + phi_v[1]) / 2, dim=0),
            F.normalize((phi_r[2] + phi_v[2]) / 2, dim=0),
        ]
    )
    torch.testing.assert_close(cross_prototypes(phi_v, phi_r, matching), expected)


def test_a_demand_cluster_without_a_match_is_its_own_cross_prototype() -> None:
    tables = np.array([0, UNMATCHED]), np.array([0, UNMATCHED])
    matching = Matching(*tables, scores=np.eye(2), supply="visible", unassigned=np.array([1]))
    phi_v, phi_r = (torch.tensor(unit(np.random.default_rng(seed), 2, 4)) for seed in (0, 1))
    expected = torch.stack([F.normalize(phi_r[0] + phi_v[0], dim=0), phi_r[1]])
    torch.testing.assert_close(cross_prototypes(phi_v, phi_r, matching), expected)


def test_oracle_matches_by_majority_identity_and_admits_strangers() -> None:
    matching = Oracle()(from_similarity(MORE_SUPPLY), Truth(np.array([7, 8, 8, 9]), np.array([8, 5])))
    assert matching.v2r.tolist() == [UNMATCHED, 0, 0, UNMATCHED]
    assert matching.r2v.tolist() == [1, UNMATCHED]


def test_registry_refuses_a_second_matcher_of_a_name() -> None:
    assert {"otpa", "oracle"} <= set(MATCHERS)
    with pytest.raises(UserError, match="registered already"):
        register_matcher("otpa")(type("Another", (), {}))


def test_unknown_supply_is_refused() -> None:
    with pytest.raises(UserError, match="supply"):
        OTPA(supply="thermal")
