"""The matchers beside OTPA: hand-made cases, plain references, and what each promises for any shape."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgot.errors import UserError
from mgot.matching import (
    ADCA,
    MATCHERS,
    OTLA,
    PGM,
    RPNR,
    UNMATCHED,
    Hungarian,
    Members,
    Nearest,
    Oracle,
    Prototypes,
    Sinkhorn,
    Together,
    Unbalanced,
    Vote,
    adca,
    cross_labels,
    cross_prototypes,
    instance_votes,
    matching_of,
    pair_votes,
    vote,
)
from mgot.transport import (
    CostOf,
    exponential_cost,
    probability,
    relaxed_transport,
    settled_transport,
    transport_cost,
    uniform_transport,
)
from mgot.truth import Truth

MATCH_ALL = ("otpa", "sinkhorn", "hungarian", "vote", "nearest", "pgm", "rpnr", "otla")


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def drawn(n_v: int, n_r: int, seed: int, dim: int = 4) -> Prototypes:
    """Random prototypes with 1 to 5 members each and an outlier."""
    rng = np.random.default_rng(seed)
    labels = [np.append(np.repeat(np.arange(n), rng.integers(1, 6, n)), -1) for n in (n_v, n_r)]
    members = Members(unit(rng, len(labels[0]), dim), unit(rng, len(labels[1]), dim), *labels)
    return Prototypes(unit(rng, n_v, dim), unit(rng, n_r, dim), members)


def people(n_v: int, n_r: int, seed: int) -> Truth:
    """Identities of clusters, of which some are on one side only."""
    rng = np.random.default_rng(seed)
    return Truth(rng.integers(0, 5, n_v), rng.integers(0, 5, n_r))


def from_similarity(s: np.ndarray) -> Prototypes:
    rest = np.sqrt(1 - (s**2).sum(1, keepdims=True))
    return Prototypes(np.hstack([s, rest]), np.eye(s.shape[1], s.shape[1] + 1))


# Infrared 0 attracts every visible cluster; one-to-one, 1 and 2 go home.
HUB = from_similarity(np.array([[0.70, 0.10, 0.10], [0.60, 0.55, 0.10], [0.60, 0.10, 0.55]]))


def test_the_hub_divides_the_matchers() -> None:
    assert Nearest()(HUB).v2r.tolist() == [0, 0, 0] and Nearest()(HUB).unassigned.tolist() == [1, 2]
    assert Sinkhorn()(HUB).v2r.tolist() == [0, 1, 2] and Hungarian()(HUB).v2r.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", sorted(MATCHERS))
@settings(max_examples=25, deadline=None)
@given(
    n_v=st.integers(0, 9),
    n_r=st.integers(0, 9),
    seed=st.integers(0, 9999),
    supply=st.sampled_from(["visible", "infrared"]),
)
def test_what_every_matcher_promises(name: str, n_v: int, n_r: int, seed: int, supply: str) -> None:
    prototypes = drawn(n_v, n_r, seed)
    matching = matching_of(MATCHERS[name](supply=supply), prototypes, people(n_v, n_r, seed))
    for table, own, other in ((matching.v2r, n_v, n_r), (matching.r2v, n_r, n_v)):
        assert table.shape == (own,) and table.dtype.kind == "i"
        assert ((table >= UNMATCHED) & (table < other)).all()
        if n_v and n_r and name in MATCH_ALL:
            assert (table != UNMATCHED).all()
    forward, backward = (matching.v2r, matching.r2v) if supply == "visible" else (matching.r2v, matching.v2r)
    assert matching.scores.shape == (n_v, n_r) and np.isfinite(matching.scores).all() and matching.supply == supply
    assert matching.unassigned.tolist() == [j for j in range(len(backward)) if j not in forward]
    phi_c = cross_prototypes(torch.tensor(prototypes.visible), torch.tensor(prototypes.infrared), matching)
    assert len(phi_c) == len(backward) and torch.isfinite(phi_c).all()
    assert all(((c >= UNMATCHED) & (c < len(phi_c))).all() for c in cross_labels(matching))


@pytest.mark.parametrize("name", sorted(MATCHERS))
def test_swapping_the_modalities_mirrors_the_matching(name: str) -> None:
    p, truth = drawn(7, 4, 3), people(7, 4, 3)
    assert p.members is not None
    f_v, f_r, y_v, y_r = p.members
    swapped = Prototypes(p.infrared, p.visible, Members(f_r, f_v, y_r, y_v))
    here = matching_of(MATCHERS[name](supply="visible"), p, truth)
    there = matching_of(MATCHERS[name](supply="infrared"), swapped, Truth(truth.infrared, truth.visible))
    assert here.v2r.tolist() == there.r2v.tolist() and here.r2v.tolist() == there.v2r.tolist()
    assert here.unassigned.tolist() == there.unassigned.tolist()


@settings(max_examples=30, deadline=None)
@given(n_v=st.integers(1, 9), n_r=st.integers(1, 9), seed=st.integers(0, 9999))
def test_the_oracle_takes_the_most_similar_of_the_same_person(n_v: int, n_r: int, seed: int) -> None:
    p, who = drawn(n_v, n_r, seed), people(n_v, n_r, seed)
    matching = Oracle()(p, who)
    sides = (
        (matching.v2r, who.visible, who.infrared, p.similarity),
        (matching.r2v, who.infrared, who.visible, p.similarity.T),
    )
    for table, own, other, near in sides:
        for i, match in enumerate(table):
            same = [(near[i, j], j) for j in range(len(other)) if other[j] == own[i]]
            assert match == (max(same)[1] if same else UNMATCHED)


@pytest.mark.parametrize(
    ("matcher", "cost_of"),
    [(Sinkhorn(sharpness=5.0, max_iterations=1), transport_cost),
     (RPNR(regularisation=0.2, max_iterations=1), exponential_cost)],
)  # fmt: skip
def test_a_plan_is_that_of_its_matchers_settings(matcher: Sinkhorn | RPNR, cost_of: CostOf) -> None:
    p = drawn(6, 4, 1)
    expected, matching = settled_transport(p.similarity, 5.0, max_iterations=1, cost_of=cost_of), matcher(p)
    assert matching.transport is not None and matching.transport.failures == expected.failures != ()
    np.testing.assert_array_equal(matching.scores, expected.plan)


def test_sinkhorn_is_the_plans_argmax_both_ways() -> None:
    p = drawn(6, 4, 1)
    plan = uniform_transport(p.similarity).plan
    matching = Sinkhorn()(p)
    assert matching.v2r.tolist() == [max(range(4), key=lambda j: plan[i, j]) for i in range(6)]
    assert matching.r2v.tolist() == [max(range(6), key=lambda i: plan[i, j]) for j in range(4)]
    assert matching.transport is not None and matching.transport.converged


@settings(max_examples=30, deadline=None)
@given(n_v=st.integers(1, 5), n_r=st.integers(1, 5), seed=st.integers(0, 9999))
def test_hungarians_first_pass_is_the_best_of_all_pairings(n_v: int, n_r: int, seed: int) -> None:
    p = drawn(n_v, n_r, seed)
    scores, matching = probability(p.similarity), Hungarian()(p)
    few, many = min(n_v, n_r), max(n_v, n_r)
    table, smaller_to_larger = (scores, matching.v2r) if n_v <= n_r else (scores.T, matching.r2v)
    best = max(sum(table[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(many), few))
    assert table[np.arange(few), smaller_to_larger].sum() == pytest.approx(best)
    assert len(set(smaller_to_larger)) == few


@settings(max_examples=30, deadline=None)
@given(few=st.integers(1, 4), many=st.integers(1, 13), seed=st.integers(0, 9999))
def test_hungarians_passes_load_the_smaller_side_evenly(few: int, many: int, seed: int) -> None:
    load = Counter(Hungarian()(drawn(max(few, many), min(few, many), seed)).v2r.tolist())
    assert len(load) == min(few, many) and max(load.values()) - min(load.values()) <= 1


@pytest.mark.parametrize("block", [1, 4, 8192])
def test_votes_are_the_loop_over_images(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vote, "_BLOCK", block)
    p = drawn(5, 3, 2)
    assert p.members is not None
    expected = np.zeros((5, 3), dtype=int)
    for f, y in zip(p.members.f_v, p.members.y_v, strict=True):
        if y >= 0:
            expected[y, max(range(3), key=lambda j: f @ p.infrared[j])] += 1
    for f, y in zip(p.members.f_r, p.members.y_r, strict=True):
        if y >= 0:
            expected[max(range(5), key=lambda i: f @ p.visible[i]), y] += 1
    votes = instance_votes(p.visible, p.infrared, p.members)
    assert votes.tolist() == expected.tolist()
    assert votes.sum() == sum(size.sum() for size in p.members.sizes())


@settings(max_examples=30, deadline=None)
@given(n_v=st.integers(1, 6), n_r=st.integers(1, 6), seed=st.integers(0, 9999))
def test_vote_is_the_plain_greedy_loop(n_v: int, n_r: int, seed: int) -> None:
    p = drawn(n_v, n_r, seed)
    matching, s = Vote()(p), p.similarity
    v2r, r2v = {}, {}
    while pairs := [
        (matching.scores[i, j], s[i, j], i, j)
        for i in range(n_v) for j in range(n_r) if i not in v2r and j not in r2v and matching.scores[i, j] > 0
    ]:  # fmt: skip
        *_, i, j = max(pairs)
        v2r[i], r2v[j] = j, i
    for i in range(n_v):
        v2r.setdefault(i, max(range(n_r), key=lambda j: (matching.scores[i, j], s[i, j])))
    for j in range(n_r):
        r2v.setdefault(j, max(range(n_v), key=lambda i: (matching.scores[i, j], s[i, j])))
    assert matching.v2r.tolist() == [v2r[i] for i in range(n_v)]
    assert matching.r2v.tolist() == [r2v[j] for j in range(n_r)]


@pytest.mark.parametrize("block", [1, 4])
def test_votes_of_pairs_are_counted_block_by_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    members = drawn(5, 3, 2).members
    assert members is not None
    votes, closest = pair_votes(members, (5, 3), 0.2)
    monkeypatch.setattr(adca, "_BLOCK", block)
    again, as_close = pair_votes(members, (5, 3), 0.2)
    assert votes.sum() > 0 and again.tolist() == votes.tolist()
    np.testing.assert_allclose(as_close, closest)


def test_votes_of_pairs_do_not_depend_on_the_order_of_images() -> None:
    members = drawn(5, 3, 2).members
    assert members is not None
    v, r = (np.random.default_rng(0).permutation(len(y)) for y in (members.y_v, members.y_r))
    shuffled = Members(members.f_v[v], members.f_r[r], members.y_v[v], members.y_r[r])
    for ours, sorted_ones in zip(pair_votes(shuffled, (5, 3), 0.2), pair_votes(members, (5, 3), 0.2), strict=True):
        np.testing.assert_allclose(ours, sorted_ones)


def test_vote_without_members_is_refused() -> None:
    with pytest.raises(UserError, match="members"):
        Vote()(HUB)


# Visible 2 and infrared 2 have nobody on the other side.
STRANGERS = from_similarity(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.05]]))


def test_unbalanced_leaves_strangers_alone() -> None:
    matching = Unbalanced()(STRANGERS)
    assert matching.v2r.tolist() == [0, 1, UNMATCHED] and matching.r2v.tolist() == [0, 1, UNMATCHED]
    assert matching.unassigned.tolist() == [2]


def test_unbalanced_chooses_from_the_plan_of_its_settings() -> None:
    p = drawn(6, 4, 1)
    matching = Unbalanced(sharpness=5.0, relaxation=0.3, max_iterations=7)(p)
    expected = relaxed_transport(p.similarity, 5.0, 0.3, max_iterations=7)
    np.testing.assert_array_equal(matching.scores, expected.plan)
    assert matching.transport is not None and matching.transport.iterations == expected.iterations == 7


def test_unbalanced_matches_everybody_where_mass_is_dear_or_none_is_asked() -> None:
    for wrong in (-0.1, 1.0):
        with pytest.raises(UserError, match="least mass must be"):
            Unbalanced(min_mass=wrong)
    for matcher in (Unbalanced(relaxation=1e4), Unbalanced(min_mass=0.0)):
        assert (matcher(STRANGERS).v2r != UNMATCHED).all() and (matcher(STRANGERS).r2v != UNMATCHED).all()


@settings(max_examples=30, deadline=None)
@given(n_v=st.integers(1, 8), n_r=st.integers(1, 8), seed=st.integers(0, 9999), lam=st.sampled_from([1.0, 25.0, 500.0]))
def test_unbalanced_keeps_the_heavy(n_v: int, n_r: int, seed: int, lam: float) -> None:
    matching = Unbalanced(sharpness=lam)(drawn(n_v, n_r, seed))
    for table, plan in ((matching.v2r, matching.scores), (matching.r2v, matching.scores.T)):
        masses = [sum(row) for row in plan]
        limit = 0.5 * sum(masses) / len(masses)
        for match, mass, row in zip(table, masses, plan, strict=True):
            if abs(mass - limit) > 1e-9:
                assert match == (int(row.argmax()) if mass > limit else UNMATCHED)
        assert (table != UNMATCHED).any()


@pytest.mark.parametrize(
    "cls", [ADCA, OTLA, PGM, RPNR, Hungarian, Nearest, Oracle, Sinkhorn, Together, Unbalanced, Vote]
)
def test_unknown_supply_is_refused(cls: type) -> None:
    with pytest.raises(UserError, match="supply"):
        cls(supply="thermal")
