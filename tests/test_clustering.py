"""Pseudo labels against dense matrices and plain loops."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

import tests.reference_clustering as reference
from mgot.clustering import cluster
from mgot.clustering.dbscan import dbscan
from mgot.clustering.jaccard import Pairs, pairs_within
from mgot.errors import UserError
from mgot.neighbours.encoding import encode, expand
from mgot.neighbours.features import check_features
from mgot.neighbours.rows import Rows, transposed
from mgot.neighbours.search import nearest

EASY, HARD = 0.8, 2.5


def dense(matrix: Rows) -> np.ndarray:
    total = len(matrix.start) - 1
    result = np.zeros((total, total), dtype=np.float32)
    for i in range(total):
        part = slice(matrix.start[i], matrix.start[i + 1])
        assert len(set(matrix.ids[part])) == part.stop - part.start
        result[i, matrix.ids[part]] = matrix.value[part]
    return result


def our_weights(features: np.ndarray, k1: int, k2: int) -> Rows:
    checked = check_features(features)
    neighbours = nearest(checked, min(k1, len(features)))
    encoded = encode(checked, neighbours, int(np.around(k1 / 2)) + 1)
    return expand(encoded, neighbours, min(k2, len(features)))


@pytest.mark.parametrize("noise", [EASY, HARD])
@pytest.mark.parametrize("eps", [0.3, 0.6])
@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (30, 1), (11, 3)])
def test_labels_are_those_of_the_dense_reference(noise: float, eps: float, k1: int, k2: int) -> None:
    features = reference.blobs(400, noise=noise)
    found = cluster(features, k1=k1, k2=k2, eps=eps)
    expected = reference.labels(features, k1, k2, eps)
    np.testing.assert_array_equal(found.labels, expected)
    assert found.n_clusters == expected.max() + 1


def test_people_of_both_sides_meet_only_if_neighbours_are_drawn_from_each() -> None:
    """Twelve people seen from two sides that are further apart than the people are."""
    rng = np.random.default_rng(0)
    person, side = np.repeat(np.arange(12), 20), np.tile([False, True], 120)
    rows = np.eye(24)[person] + 1.2 * np.outer(side, np.eye(24)[-1]) + 0.02 * rng.normal(size=(240, 24))
    apart, together = (cluster(rows, k1=16, side=each) for each in (None, side))
    assert (apart.n_clusters, together.n_clusters) == (24, 12)
    np.testing.assert_array_equal(together.labels, person)
    np.testing.assert_array_equal(together.labels, reference.labels(rows, k1=16, side=side))


def test_easy_and_hard_are_what_they_are_called() -> None:
    easy, hard = (cluster(reference.blobs(400, noise=noise)) for noise in (EASY, HARD))
    assert easy.n_clusters >= 10
    assert (easy.labels < 0).mean() < 0.1
    assert 0.2 < (hard.labels < 0).mean() < 1.0


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_small_set_gets_the_reference_labels(data: st.DataObject) -> None:
    """Few points of few values: copies, opposite vectors, ties, N below k1, one point."""
    points = st.tuples(*[st.integers(-2, 2)] * data.draw(st.integers(1, 3))).filter(any)
    features = np.array(data.draw(st.lists(points, min_size=1, max_size=24)), dtype=np.float32)
    k1 = data.draw(st.integers(1, 30))
    k2 = data.draw(st.integers(1, min(k1, 8)))
    eps = data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.6, 0.9]))
    min_samples = data.draw(st.integers(1, 6))
    side = data.draw(st.none() | st.lists(st.booleans(), min_size=len(features), max_size=len(features)).map(np.array))
    assume(side is None or (side.any() and not side.all()))
    found = cluster(features, k1=k1, k2=k2, eps=eps, min_samples=min_samples, side=side)
    expected = reference.labels(features, k1, k2, eps, min_samples, side)
    np.testing.assert_array_equal(found.labels, expected)
    assert set(found.labels) - {-1} == set(range(found.n_clusters))


@pytest.mark.parametrize("noise", [EASY, HARD])
@pytest.mark.parametrize("eps", [0.3, 0.6, 0.97])
def test_pairs_are_all_the_near_ones_with_their_distances(noise: float, eps: float) -> None:
    features = reference.blobs(300, noise=noise)
    expected = reference.jaccard(features)
    found = np.full_like(expected, np.inf)
    for pairs in pairs_within(our_weights(features, 30, 6), eps):
        rows = pairs.first + np.repeat(np.arange(len(pairs.ends)), np.diff(pairs.ends, prepend=0))
        found[rows, pairs.columns] = pairs.distances
    near = expected <= np.float32(eps)
    np.testing.assert_array_equal(np.isfinite(found), near)
    np.testing.assert_allclose(found[near], expected[near], atol=1e-6)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("k2", [1, 6])
def test_weights_are_those_of_the_reference(k2: int) -> None:
    features = reference.blobs(200, noise=1.5)
    found = dense(our_weights(features, 20, k2))
    np.testing.assert_allclose(found, reference.weights(features, 20, k2), atol=1e-7)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_whole_numbers_decide_the_two_thirds_rule_as_floats_do() -> None:
    for size in range(1, 400):
        for shared in range(size + 1):
            assert (3 * shared > 2 * size) == (shared > 2 / 3 * size)


def test_transposed_matrix_lists_the_columns_in_order() -> None:
    matrix = our_weights(reference.blobs(80), 10, 3)
    np.testing.assert_array_equal(dense(transposed(matrix)), dense(matrix).T)
    turned = transposed(matrix)
    assert all(np.all(np.diff(turned.ids[a:b]) > 0) for a, b in zip(turned.start[:-1], turned.start[1:], strict=True))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 14), st.integers(1, 5), st.floats(0.05, 0.6), st.integers(1, 5), st.integers(0, 10**6))
def test_dbscan_is_scikit_learns(n: int, min_samples: int, density: float, chunk: int, seed: int) -> None:
    """On any symmetric graph, with border rows that several clusters claim and rows in chunks of any size."""
    near = np.random.default_rng(seed).random((n, n)) < density
    near = near | near.T | np.eye(n, dtype=bool)
    expected = DBSCAN(eps=0.5, min_samples=min_samples, metric="precomputed").fit_predict(1.0 - near)
    chunks = []
    for first in range(0, n, chunk):
        rows, columns = np.nonzero(near[first : first + chunk])
        ends = np.cumsum(near[first : first + chunk].sum(axis=1))
        chunks.append(Pairs(first, ends, columns.astype(np.int32), np.zeros(len(rows), dtype=np.float32)))
    labels, n_clusters = dbscan(n, chunks, min_samples)
    np.testing.assert_array_equal(labels, expected)
    assert n_clusters == expected.max() + 1


def test_one_point_is_an_outlier_or_a_cluster_of_its_own() -> None:
    assert cluster(np.ones((1, 3), np.float32)).labels.tolist() == [-1]
    alone = cluster(np.ones((1, 3), np.float32), min_samples=1)
    assert (alone.labels.tolist(), alone.n_clusters) == ([0], 1)


@pytest.mark.parametrize("n", [3, 40, 700])
def test_equal_points_are_one_cluster_where_they_are_enough(n: int) -> None:
    found = cluster(np.full((n, 5), 0.1, np.float32))
    assert set(found.labels) == ({-1} if n < 4 else {0})
    assert found.n_clusters == int(n >= 4)


def test_copies_among_others_get_the_reference_labels() -> None:
    features = reference.blobs(60, noise=0.5)[np.random.default_rng(1).integers(60, size=350)]
    np.testing.assert_array_equal(cluster(features).labels, reference.labels(features))


def test_nothing_but_outliers_is_no_error() -> None:
    found = cluster(np.eye(12, dtype=np.float32), k1=3, k2=1, eps=0.2)
    assert (set(found.labels), found.n_clusters) == ({-1}, 0)


def test_length_of_features_does_not_matter() -> None:
    features = reference.blobs(200)
    lengths = np.exp2(np.random.default_rng(0).integers(-20, 20, (200, 1))).astype(np.float32)
    np.testing.assert_array_equal(cluster(features * lengths).labels, cluster(features).labels)


def test_features_may_be_any_array_or_tensor() -> None:
    features = reference.blobs(120)
    expected = cluster(features).labels
    assert expected.dtype == np.int64
    tensor = torch.from_numpy(features).requires_grad_()
    for other in (tensor, tensor.double(), np.asfortranarray(features), features.astype(np.float64)):
        np.testing.assert_array_equal(cluster(other).labels, expected)


def test_number_of_threads_does_not_matter() -> None:
    features = reference.blobs(900, noise=HARD)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(cluster(features).labels)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])


def test_stages_are_timed() -> None:
    seconds = cluster(reference.blobs(50)).seconds
    assert list(seconds) == ["check", "search", "encode", "expand", "cluster"]
    assert all(value >= 0 for value in seconds.values())


def test_more_neighbours_than_points_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        cluster(reference.blobs(10), k1=30)
        cluster(reference.blobs(40), k1=30, side=np.arange(40) < 4)
    assert "k1 = 30, but there are only 10 rows: 10 neighbours" in caplog.text
    assert "k1 = 30, but there are only 40 rows: 8 neighbours" in caplog.text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_named(bad: float) -> None:
    features = reference.blobs(50)
    features[[3, 17], 5] = bad
    with pytest.raises(UserError, match=r"NaN or infinite.*rows 3, 17 \(of 50\)"):
        cluster(features)
    with pytest.raises(UserError, match=r"NaN or infinite.*image3\.jpg, image17\.jpg"):
        cluster(torch.from_numpy(features), names=[f"image{i}.jpg" for i in range(50)])


def test_zero_features_are_named_up_to_some() -> None:
    features = reference.blobs(50)
    features[10:30] = 0
    with pytest.raises(UserError, match=r"zero.*rows 10, 11, 12, 13, 14 and 15 more \(of 50\)"):
        cluster(features)


def test_tiny_and_huge_features_are_neither_zero_nor_infinite() -> None:
    features = reference.blobs(60)
    expected = cluster(features).labels
    for scale in (2.0**-100, 2.0**100):
        np.testing.assert_array_equal(cluster(features * np.float32(scale)).labels, expected)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"k1": 0}, "k1 = 0"),
        ({"k2": 0}, "k2 = 0"),
        ({"k2": 31}, "k2 = 31.*k1 = 30"),
        ({"eps": 0.0}, "eps = 0.0"),
        ({"eps": -0.1}, "eps = -0.1"),
        ({"eps": 1.0}, "eps = 1.0"),
        ({"eps": float("nan")}, "eps = nan"),
        ({"min_samples": 0}, "min_samples = 0"),
        ({"search": "magic"}, "search = magic.*auto.*symmetric"),
        ({"side": np.ones(20, dtype=bool)}, "rows of both sides"),
        ({"side": np.arange(19) < 9}, r"20 times True or False, not bool \(19,\)"),
        ({"side": np.arange(20) % 2}, "20 times True or False, not int64"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        cluster(reference.blobs(20), **wrong)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 3, 4)])
def test_features_must_be_a_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"\(N, D\)"):
        cluster(np.ones(shape, np.float32))
