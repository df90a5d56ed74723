"""The matcher that clusters both modalities' images together, against a plain count of pairs, and degenerate input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mgot.clustering import Clustering, cluster
from mgot.errors import UserError
from mgot.matching import UNMATCHED, Members, Prototypes, Together
from mgot.matching.together import drawn as drawn_rows
from tests.test_matchers import HUB, drawn


def crowds(n_v: int, n_r: int, seed: int, images: int = 8) -> Prototypes:
    """Tight clusters of the first n of eight people; infrared images are shifted, and the last image is an outlier."""
    rng = np.random.default_rng(seed)
    people, shift = np.eye(12)[:8], 0.8 * np.eye(12)[11]
    sets = []
    for n, offset in ((n_v, 0.0), (n_r, shift)):
        y = np.repeat(np.arange(n), images)
        rows = people[y] + offset + 0.02 * rng.normal(size=(len(y), 12))
        sets.append((rows / np.linalg.norm(rows, axis=1, keepdims=True), np.append(y[:-1], -1)))
    (f_v, y_v), (f_r, y_r) = sets
    phi_v, phi_r = (np.stack([f[y == k].mean(0) for k in range(n)]) for f, y, n in ((f_v, y_v, n_v), (f_r, y_r, n_r)))
    return Prototypes(phi_v, phi_r, Members(f_v, f_r, y_v, y_r))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_together_matches_clusters_whose_images_meet(share: float) -> None:
    matching = Together(joint_k1=16, visible_share=share)(crowds(6, 4, 0, images=20))
    assert matching.v2r.tolist() == [0, 1, 2, 3, UNMATCHED, UNMATCHED]
    assert matching.r2v.tolist() == [0, 1, 2, 3] and matching.unassigned.tolist() == []


def test_images_of_the_own_modality_do_not_crowd_out_the_other() -> None:
    """16 neighbours and 16 images of a person in each modality, alike within the modality and less so across."""
    rng, person = np.random.default_rng(0), np.repeat(np.arange(6), 16)
    f_v, f_r = (np.eye(18)[person] + 0.6 * np.eye(18)[person + own] for own in (6, 12))
    f_v, f_r = (f + 0.02 * rng.normal(size=f.shape) for f in (f_v, f_r))
    phi_v, phi_r = (f.reshape(6, 16, 18).mean(axis=1) for f in (f_v, f_r))
    matching = Together(joint_k1=16)(Prototypes(phi_v, phi_r, Members(f_v, f_r, person, person)))
    assert matching.v2r.tolist() == matching.r2v.tolist() == [0, 1, 2, 3, 4, 5]


SHARED = Together(joint_eps=0.95, joint_k1=5)


@settings(max_examples=25, deadline=None)
@example(k_v=4, k_r=5, seed=0, eps=0.95, share=0.6)
@given(
    k_v=st.integers(1, 6),
    k_r=st.integers(1, 6),
    seed=st.integers(0, 999),
    eps=st.sampled_from([0.6, 0.95]),
    share=st.sampled_from([0.3, 0.6, 1.0]),
)
def test_together_is_the_plain_count_of_pairs(k_v: int, k_r: int, seed: int, eps: float, share: float) -> None:
    p = drawn(k_v, k_r, seed)
    assert p.members is not None
    f_v, f_r, y_v, y_r = p.members
    taken = drawn_rows(len(f_v), share, p.epoch)
    assume(len(taken) > 1 and len(f_r) > 1)
    f_v, y_v = f_v[taken], y_v[taken]
    centred = []
    for f in (f_v, f_r):
        mean = sum(f) / len(f)
        centred += [(row - mean) / np.linalg.norm(row - mean) for row in f]
    side = np.array([True] * len(f_v) + [False] * len(f_r))
    groups = cluster(torch.tensor(np.array(centred), dtype=torch.float32), k1=5, k2=5, eps=eps, side=side).labels
    w = np.zeros((k_v, k_r))
    for i, g in zip(y_v, groups[: len(f_v)], strict=True):
        for j, h in zip(y_r, groups[len(f_v) :], strict=True):
            w[i, j] += g == h >= 0 and i >= 0 and j >= 0
    w /= np.maximum(np.outer([(y_v == i).sum() for i in range(k_v)], [(y_r == j).sum() for j in range(k_r)]), 1)
    matching, s = replace(SHARED, joint_eps=eps, visible_share=share)(p), p.similarity
    np.testing.assert_allclose(matching.scores, w, atol=1e-12)
    for table, rows, near in ((matching.v2r, w, s), (matching.r2v, w.T, s.T)):
        for match, row, similar in zip(table, rows, near, strict=True):
            best = [k for k in range(len(row)) if row[k] > max(row) - 1e-12]
            assert match == (max(best, key=lambda k: similar[k]) if max(row) > 0 else UNMATCHED)


@given(n=st.integers(1, 50), share=st.floats(0.01, 1.0), epoch=st.integers(0, 99))
def test_a_share_of_the_rows_is_drawn_once_each(n: int, share: float, epoch: int) -> None:
    rows = drawn_rows(n, share, epoch).tolist()
    assert rows == sorted(set(rows)) and set(rows) <= set(range(n))
    assert len(rows) == max(1, round(share * n))


def test_each_epoch_draws_anew_and_a_resumed_one_draws_the_same() -> None:
    half = [tuple(drawn_rows(40, 0.5, epoch)) for epoch in (0, 1, 2, 0)]
    assert len(set(half)) == 3 and half[0] == half[3]
    p = crowds(6, 4, 0)
    matcher = Together(joint_k1=16, visible_share=0.5)
    first, again, later = (matcher(p._replace(epoch=epoch)).scores for epoch in (0, 0, 1))
    assert (first == again).all() and (first != later).any()


def test_together_meets_images_in_its_example() -> None:
    assert (SHARED(drawn(4, 5, 0)).scores > 0).sum() > 3


def test_shares_of_pairs_that_are_equal_leave_it_to_the_similarity(monkeypatch: pytest.MonkeyPatch) -> None:
    """1/5 of the pairs twice: 1 of 5 images with 1 of 1, and 3 of 5 with 1 of 3. 0.6 * (1 / 3) is less than 0.2."""
    y_v, y_r = np.zeros(5, dtype=np.int64), np.array([0, 1, 1, 1])
    groups = np.array([0, 1, 1, 1, -1, 0, 1, -1, -1])
    monkeypatch.setattr("mgot.matching.together.cluster", lambda rows, **keys: Clustering(groups, 2, {}))
    rng = np.random.default_rng(0)
    members = Members(rng.normal(size=(5, 4)), rng.normal(size=(4, 4)), y_v, y_r)
    for nearer in (0, 1):
        phi_r = np.eye(4)[[1, 2]]
        phi_r[nearer] = np.eye(4)[0]
        assert Together()(Prototypes(np.eye(4)[:1], phi_r, members)).v2r.tolist() == [nearer]


@pytest.mark.parametrize("alike", ["visible", "infrared"])
def test_a_modality_that_is_one_point_is_matched_to_nothing(alike: str) -> None:
    p = crowds(3, 3, 0)
    assert p.members is not None
    name = {"visible": "f_v", "infrared": "f_r"}[alike]
    same = np.ones_like(getattr(p.members, name)) / 12**0.5
    matching = Together()(p._replace(members=p.members._replace(**{name: same})))
    assert set(matching.v2r) == set(matching.r2v) == {UNMATCHED}


@pytest.mark.parametrize(
    ("field", "value"), [("visible_share", 0.0), ("visible_share", 1.5), ("joint_eps", 1.0), ("joint_k1", 0)]
)
def test_together_needs_members_and_numbers_in_their_ranges(field: str, value: Any) -> None:
    with pytest.raises(UserError, match="members"):
        Together()(HUB)
    with pytest.raises(UserError, match="must be"):
        replace(Together(), **{field: value})
