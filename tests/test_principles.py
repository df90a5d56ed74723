"""Sharpness, fairness and fitness against plain loops and hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mgot.matching import UNMATCHED, Matching
from mgot.principles import (
    cluster_statistics,
    clustering_quality,
    majority_identities,
    matching_accuracy,
    matching_agreement,
    matching_statistics,
    prediction_entropies,
)


def matched(v2r: list[int], r2v: list[int], scores: np.ndarray | None = None) -> Matching:
    table = np.ones((len(v2r), len(r2v))) if scores is None else scores
    unassigned = np.setdiff1d(np.arange(len(r2v)), v2r)
    return Matching(np.array(v2r), np.array(r2v), table, "visible", unassigned)


@pytest.mark.parametrize("block", [4, 8192])
def test_entropies_are_the_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgot.principles._BLOCK", block)
    f = F.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    phi = F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    rows = [torch.softmax(phi @ x / 0.05, 0).tolist() for x in f]
    sharpness = sum(-sum(p * math.log(p) for p in row if p > 0) for row in rows) / 9
    mean = [sum(row[k] for row in rows) / 9 for k in range(5)]
    fairness = -sum(p * math.log(p) for p in mean) / math.log(5)
    assert prediction_entropies(f, phi, 0.05) == pytest.approx((sharpness, fairness), abs=1e-4)


def test_entropies_of_nothing_and_of_one_prototype() -> None:
    f = torch.ones(3, 4)
    assert prediction_entropies(f[:0], f, 0.05) == (0.0, 0.0)
    assert prediction_entropies(f, f[:1], 0.05) == (0.0, 1.0)


def test_cluster_statistics_of_even_and_uneven_clusters() -> None:
    even = cluster_statistics(np.array([0, 0, 1, 1, -1]))
    assert even == pytest.approx(
        {"clusters": 2, "outliers": 0.2, "size_entropy": 1, "size_median": 2, "size_max_share": 0.5}
    )
    uneven = cluster_statistics(np.array([0, 0, 0, 1]))
    assert uneven["size_entropy"] < 1 and uneven["size_max_share"] == 0.75
    nothing = {"clusters": 0, "outliers": 1, "size_entropy": 0, "size_median": 0, "size_max_share": 0}
    assert cluster_statistics(np.array([-1, -1])) == nothing


def test_matching_statistics_show_a_collapse() -> None:
    fair = matching_statistics(matched([0, 1, 2], [0, 1, 2], np.eye(3) * 0.8 + 0.1))
    assert fair["load_max"] == 1 and fair["load_empty"] == 0 and fair["one_to_one"] == 1
    assert fair["confidence"] == pytest.approx(0.9 / 1.1)
    collapsed = matching_statistics(matched([0, 0, 0], [0, 0, 0]))
    assert collapsed["load_max"] == 3 and collapsed["load_empty"] == pytest.approx(2 / 3)
    assert collapsed["one_to_one"] == pytest.approx(1 / 3)
    assert fair["unmatched"] == 0 and matching_statistics(matched([0, UNMATCHED], [0, 1]))["unmatched"] == 0.25
    assert collapsed["load_top3"] == 1
    assert matching_statistics(matched(list(range(6)), list(range(6))))["load_top3"] == pytest.approx(0.5)


def test_matching_statistics_are_those_of_the_supply() -> None:
    """The last supply cluster has no match, although the last demand cluster names it; nobody took that one."""
    forward, backward = np.array([0, 0, 1, UNMATCHED]), np.array([1, 0, 3])
    scores, nobody = np.array([[3, 1, 0], [1, 1, 0], [0, 2, 0], [0, 0, 0]]), np.array([2])
    expected = {"load_max": 2, "load_empty": 1 / 3, "load_top3": 1, "one_to_one": 0.25, "unmatched": 1 / 7,
                "confidence": 0.5625}  # fmt: skip
    assert matching_statistics(Matching(forward, backward, scores, "visible", nobody)) == pytest.approx(expected)
    assert matching_statistics(Matching(backward, forward, scores.T, "infrared", nobody)) == pytest.approx(expected)


def test_agreement_survives_renumbering_and_notices_change() -> None:
    y_v, y_r = np.array([0, 0, 1, 1, -1]), np.array([0, 0, 1, 1, 1])
    same = matching_agreement(np.array([0, 1]), y_v, y_r, np.array([0, 1]), y_v, y_r)
    renumbered = matching_agreement(np.array([0, 1]), y_v, y_r, np.array([1, 0]), y_v, 1 - y_r)
    assert same == renumbered == pytest.approx(1.0)
    assert matching_agreement(np.array([1, 0]), y_v, y_r, np.array([0, 1]), y_v, y_r) == 0.0
    assert matching_agreement(np.array([UNMATCHED] * 2), y_v, y_r, np.array([0, 1]), y_v, y_r) == 0.0


def test_agreement_is_the_loop_over_images() -> None:
    rng = np.random.default_rng(0)
    y_v, y_v0 = rng.integers(-1, 4, 40), rng.integers(-1, 3, 40)
    y_r, y_r0 = rng.integers(-1, 5, 30), rng.integers(-1, 4, 30)
    v2r, v2r0 = rng.integers(-1, 5, 4), rng.integers(-1, 4, 3)
    values = []
    for now, before in zip(y_v, y_v0, strict=True):
        if now >= 0 and before >= 0 and v2r[now] >= 0 and v2r0[before] >= 0:
            a, b = set(np.flatnonzero(y_r == v2r[now])), set(np.flatnonzero(y_r0 == v2r0[before]))
            values.append(len(a & b) / max(len(a | b), 1))
    assert matching_agreement(v2r, y_v, y_r, v2r0, y_v0, y_r0) == pytest.approx(np.mean(values))


def test_majorities_and_accuracy() -> None:
    labels, truth = np.array([0, 0, 0, 1, 1, -1]), np.array([7, 7, 3, 3, 3, 9])
    assert majority_identities(labels, truth, 2).tolist() == [7, 3]
    assert majority_identities(np.full(6, -1), truth, 0).shape == (0,)
    assert matching_accuracy(matched([0, 1], [0, 1]), np.array([7, 3]), np.array([7, 9])) == pytest.approx(0.5)
    nobody_for_7 = matching_accuracy(matched([UNMATCHED, 0], [1, 0]), np.array([7, 3]), np.array([3, 3]))
    assert nobody_for_7 == pytest.approx(0.75)
    left_alone = matching_accuracy(matched([UNMATCHED, 0], [1, 0]), np.array([3, 3]), np.array([3, 3]))
    assert left_alone == pytest.approx(0.75)
    assert matching_accuracy(matched([UNMATCHED], [UNMATCHED]), np.array([3]), np.array([3])) == 0.0


def test_outliers_count_against_the_clustering() -> None:
    truth = np.array([0, 0, 1, 1])
    assert clustering_quality(np.array([5, 5, 2, 2]), truth)["ari"] == pytest.approx(1.0)
    apart = clustering_quality(np.array([5, 5, -1, -1]), truth)
    assert apart == pytest.approx(clustering_quality(np.array([0, 0, 1, 2]), truth))
    assert apart["ari"] == pytest.approx(4 / 7) and apart["nmi"] < 1.0
