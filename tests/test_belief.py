"""Belief in matches: each weight against a plain loop, and what no belief may do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgot.engine.schedule.cross import cross_weight
from mgot.errors import UserError
from mgot.matching import BELIEFS, MATCHERS, UNMATCHED, Prototypes, believe, correspondence, register_belief

TAU = 0.07  # not the default


def prototypes_of(k_v: int, k_r: int, seed: int) -> Prototypes:
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(k, 6)) for k in (k_v, k_r)]
    return Prototypes(*(row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows))


def softmax_loop(logits: list[float], at: int) -> float:
    largest = max(logits)
    return math.exp(logits[at] - largest) / sum(math.exp(x - largest) for x in logits)


def pair_weight(name: str, similarity: np.ndarray, scores: np.ndarray, i: int, j: int) -> float:
    if name == "full":
        return 1.0
    if name == "share":
        return math.sqrt(scores[i, j] / sum(scores[i]) * scores[i, j] / sum(scores[:, j]))
    row, column = [s / TAU for s in similarity[i]], [s / TAU for s in similarity[:, j]]
    return softmax_loop(row, j) * softmax_loop(column, i)


@pytest.mark.parametrize("name", ["full", "share", "mutual"])
@pytest.mark.parametrize("matcher", ["otpa", "nearest", "unbalanced"])
@settings(max_examples=20, deadline=None)
@given(k_v=st.integers(1, 7), k_r=st.integers(1, 7), seed=st.integers(0, 1000), power=st.sampled_from([0.0, 0.5, 1.0]))
def test_belief_is_the_loop(name: str, matcher: str, k_v: int, k_r: int, seed: int, power: float) -> None:
    prototypes = prototypes_of(k_v, k_r, seed)
    matching = MATCHERS[matcher]()(prototypes)
    belief = believe(name, prototypes, matching, TAU, power)
    tables = ((belief.visible, matching.v2r, False), (belief.infrared, matching.r2v, True))
    for weights, table, mirrored in tables:
        for own, other in enumerate(table):
            i, j = (other, own) if mirrored else (own, other)
            expected = 0.0
            if other != UNMATCHED:
                expected = pair_weight(name, prototypes.similarity, matching.scores, int(i), int(j)) ** power
            assert weights[own] == pytest.approx(expected, abs=1e-9)


def test_a_sure_pair_is_believed_more_than_a_doubtful_one() -> None:
    visible = np.eye(4)[:3]
    infrared = np.array([[1.0, 0, 0, 0], [0, 0.75, 0.66, 0], [0, 0.66, 0.75, 0]])
    prototypes = Prototypes(visible, infrared)
    matching = MATCHERS["otpa"]()(prototypes)
    assert matching.v2r.tolist() == [0, 1, 2]
    for name in ("share", "mutual"):
        belief = believe(name, prototypes, matching)
        assert belief.visible[0] > belief.visible[1] + 0.1
        assert belief.infrared[0] > belief.infrared[2] + 0.1


@pytest.mark.parametrize("name", sorted(BELIEFS))
def test_no_cluster_and_no_match_give_no_belief(name: str) -> None:
    empty = Prototypes(np.zeros((0, 3)), np.eye(3))
    belief = believe(name, empty, MATCHERS["otpa"]()(empty))
    assert belief.visible.shape == (0,) and belief.infrared.tolist() == [0.0, 0.0, 0.0]
    pair = prototypes_of(2, 2, 0)
    nobody = np.full(2, UNMATCHED)
    belief = believe(name, pair, correspondence(nobody, nobody, np.zeros((2, 2)), "visible"))
    assert not belief.visible.any() and not belief.infrared.any()


def test_a_belief_from_outside_is_kept_within_0_and_1() -> None:
    prototypes = prototypes_of(3, 2, 0)
    matching = correspondence(np.array([0, 1, 1]), np.array([0, 1]), np.zeros((3, 2)), "visible")
    register_belief("bold")(lambda *_: np.array([[1.7, 0.0], [0.0, -0.3], [0.0, 0.6]]))
    try:
        belief = believe("bold", prototypes, matching)
        halved = believe("bold", prototypes, matching, power=0.5)
    finally:
        del BELIEFS["bold"]
    assert belief.visible.tolist() == [1.0, 0.0, 0.6] and belief.infrared.tolist() == [1.0, 0.0]
    assert halved.infrared.tolist() == [1.0, 0.0]


def test_a_negative_score_has_no_mass() -> None:
    scores, pairs = np.array([[0.5, -0.4], [-0.3, 0.2]]), np.arange(2)
    belief = believe("share", prototypes_of(2, 2, 0), correspondence(pairs, pairs, scores, "visible"))
    assert belief.visible.tolist() == belief.infrared.tolist() == [1.0, 1.0]


def test_a_belief_of_a_known_name_is_refused() -> None:
    with pytest.raises(UserError, match="registered already"):
        register_belief("full")(BELIEFS["full"])


def weigh(epoch: int, belief: float, *, growth: str, ramp_epochs: int = 4) -> float | None:
    return cross_weight(epoch, belief, start=3, growth=growth, ramp_epochs=ramp_epochs, ramp_from=0.2, belief_goal=0.5)


def test_the_cross_terms_grow_evenly_to_their_full_weight() -> None:
    weights = [weigh(epoch, 0.0, growth="epochs") for epoch in range(9)]
    assert weights == [None, None, None, *map(pytest.approx, (0.2, 0.4, 0.6, 0.8, 1.0, 1.0))]
    assert weigh(3, 0.0, growth="epochs", ramp_epochs=0) == 1.0


def test_the_cross_terms_grow_with_belief() -> None:
    weights = [weigh(3, belief, growth="belief") for belief in (0.0, 0.25, 0.5, 0.9)]
    assert weights == [0.0, 0.25, 1.0, 1.0]
    assert weigh(2, 0.9, growth="belief") is None
    prototypes = prototypes_of(4, 3, 0)
    matching = MATCHERS["otpa"]()(prototypes)
    belief = believe("mutual", prototypes, matching)
    assert belief.mean() == pytest.approx((sum(belief.visible) + sum(belief.infrared)) / 7)
    assert believe("full", prototypes, matching).mean() == 1.0
