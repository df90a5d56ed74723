"""Re-ranking against plain loops over sets, and the rows that it makes."""

from __future__ import annotations

import numpy as np
import pytest

from mgot.data.sets.sysu import sysu_protocols
from mgot.errors import UserError
from mgot.evaluation import (
    Expansion,
    expanded_features,
    score_expanded,
    score_protocols,
    score_reranked,
    score_search,
)
from mgot.evaluation.expand import normalised
from mgot.evaluation.rerank import Reranking, reranked_distances
from tests.test_scoring import small_pool


def reference(query: np.ndarray, gallery: np.ndarray, setting: Reranking) -> np.ndarray:
    """Zhong et al.'s definition with sets; the weights are exp(-d), d = 2 - 2 cos."""
    rows = np.concatenate((query, gallery)).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    n, n_query = len(rows), len(query)
    d = np.maximum(2 - 2 * rows @ rows.T, 0)
    order = [[i, *(j for j in np.argsort(d[i], kind="stable").tolist() if j != i)] for i in range(n)]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    weights = np.zeros((n, n))
    for i in range(n):
        expanded = set(reciprocal(i, setting.k1))
        for j in reciprocal(i, setting.k1):
            half = reciprocal(j, int(np.around(setting.k1 / 2)))
            if len(half & reciprocal(i, setting.k1)) > 2 / 3 * len(half):
                expanded |= half
        for j in expanded:
            weights[i, j] = np.exp(-d[i, j])
        weights[i] /= weights[i].sum()
    averaged = np.array([np.mean([weights[j] for j in order[i][: setting.k2]], axis=0) for i in range(n)])
    result = np.empty((n_query, n - n_query))
    for q in range(n_query):
        for g in range(n_query, n):
            shared = np.minimum(averaged[q], averaged[g]).sum()
            jaccard = 1 - shared / (2 - shared)
            result[q, g - n_query] = (1 - setting.weight) * jaccard + setting.weight * d[q, g] / d[q].max()
    return result


def features(seed: int, n_query: int = 9, n_gallery: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, 6))
    rows = centres[rng.integers(0, 4, n_query + n_gallery)] + 0.6 * rng.standard_normal((n_query + n_gallery, 6))
    return rows[:n_query], rows[n_query:]


@pytest.mark.parametrize("setting", [Reranking(), Reranking(5, 3, 0.3), Reranking(4, 1, 0.0), Reranking(3, 2, 1.0)])
@pytest.mark.parametrize("seed", range(4))
def test_equals_plain_loops(seed: int, setting: Reranking) -> None:
    query, gallery = features(seed)
    np.testing.assert_allclose(
        reranked_distances(query, gallery, setting), reference(query, gallery, setting), rtol=0, atol=2e-6
    )


def test_weight_one_keeps_the_original_order() -> None:
    query, gallery = features(0)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (query, gallery)]
    order = np.argsort(-(unit[0] @ unit[1].T), axis=1)
    assert (np.argsort(reranked_distances(query, gallery, Reranking(5, 2, 1.0)), axis=1) == order).all()


def test_a_gallery_of_one_image() -> None:
    query, gallery = features(0, n_query=2, n_gallery=1)
    assert reranked_distances(query, gallery).shape == (2, 1)


def test_identical_features() -> None:
    assert np.isfinite(reranked_distances(np.ones((3, 4)), np.ones((5, 4)))).all()


@pytest.mark.parametrize("setting", [Reranking(k1=0), Reranking(k2=0), Reranking(k1=3, k2=5), Reranking(weight=1.5)])
def test_settings_out_of_range(setting: Reranking) -> None:
    with pytest.raises(UserError, match="re-ranking needs k1 >= 1"):
        reranked_distances(*features(0), setting)


def test_rows_are_named_and_state_the_setting() -> None:
    identities = np.repeat([1, 2, 3, 1, 2, 3], 4)
    cameras = np.repeat([3, 6, 3, 1, 2, 4], 4)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4, 8))[identities] + 0.3 * rng.standard_normal((24, 8))
    protocols = sysu_protocols(identities, cameras, shots=(1,), trials=2)
    plain = score_protocols(protocols, identities, cameras, features=rows)
    reranked = score_reranked(protocols, identities, cameras, rows, Reranking(4, 2, 0.3))
    assert [row["protocol"] for row in reranked] == [row["protocol"] + "+rerank" for row in plain]
    assert all(row["rerank"] == {"k1": 4, "k2": 2, "weight": 0.3} for row in reranked)
    assert {*reranked[0]} == {*plain[0], "rerank"}
    assert all("rerank" not in row for row in plain)


def test_figures_are_those_of_the_reranked_distances() -> None:
    identities, cameras, _ = small_pool(0)
    rows = np.random.default_rng(1).standard_normal((80, 16)).astype(np.float32)
    (protocol,) = sysu_protocols(identities, cameras, modes=("all",), shots=(2,), trials=1)
    query, gallery = protocol.trials[0]
    labels = identities[query], identities[gallery], cameras[query], cameras[gallery]
    setting, aqe, unit = Reranking(4, 2, 0.3), Expansion(1, 3, 3.0), normalised(rows)
    first, second = (normalised(each) for each in expanded_features(rows[query], rows[gallery], aqe))
    pairs = (unit[query], unit[gallery]), (first, second)
    (plain,) = score_reranked([protocol], identities, cameras, rows, setting)
    (both,) = score_expanded([protocol], identities, cameras, rows, aqe, rerank=setting)
    for row, (asked, searched) in zip((plain, both), pairs, strict=True):
        expected = score_search(reranked_distances(asked, searched, setting), *labels, drop="sysu-same-place")
        assert (row["rank1"], row["mAP"]) == pytest.approx((expected.rank[0], expected.mAP))
