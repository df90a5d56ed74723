"""HDBSCAN on a growing spanning tree, beside scikit-learn's on the dense matrix, and a training with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.cluster import HDBSCAN as Dense
from sklearn.metrics import adjusted_rand_score

import tests.reference_clustering as reference
from mgot.clustering import DBSCAN, HDBSCAN, OUTLIER
from mgot.clustering.hdbscan import NEAREST, clusters_of_forest, spanning_forest
from mgot.clustering.jaccard import Pairs
from mgot.engine.run import train
from mgot.engine.setup import load_config
from mgot.errors import UserError

DEMO = str(Path(__file__).resolve().parents[1] / "projects/MGOT/configs/demo.yml")


def as_partition(labels: np.ndarray) -> np.ndarray:
    """Each outlier a cluster of its own."""
    return np.where(labels == OUTLIER, -1 - np.arange(len(labels)), labels)


def chunks_of(distances: np.ndarray, reach: float, size: int) -> list[Pairs]:
    """The pairs within reach of a dense matrix, in chunks of rows."""
    found = []
    for first in range(0, len(distances), size):
        near = [np.flatnonzero(row <= reach).astype(np.int32) for row in distances[first : first + size]]
        values = [row[columns] for row, columns in zip(distances[first : first + size], near, strict=True)]
        ends = np.cumsum([len(columns) for columns in near], dtype=np.int64)
        found.append(Pairs(first, ends, np.concatenate(near), np.concatenate(values).astype(np.float32)))
    return found


def random_distances(n: int, seed: int, steps: int) -> np.ndarray:
    """Symmetric, 0 on the diagonal, of so few values that many are alike."""
    drawn = np.random.default_rng(seed).integers(1, steps + 1, (n, n)) / steps
    lower = np.tril(drawn, -1)
    return (lower + lower.T).astype(np.float32)


def reachability(distances: np.ndarray, reach: float, min_samples: int) -> np.ndarray:
    """(N, N) of d, infinite where two are no neighbours, by plain loops."""
    n = len(distances)
    within = [[float(x) for x in row if x <= reach] for row in distances]
    core = [sorted(row)[min_samples - 1] if len(row) >= min_samples else np.inf for row in within]
    d = np.full((n, n), np.inf)
    for i in range(n):
        for j in range(n):
            if i != j and distances[i, j] <= reach:
                d[i, j] = max(core[i], core[j], float(distances[i, j]), NEAREST)
    return d


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 16),
    seed=st.integers(0, 9999),
    steps=st.sampled_from([3, 20, 1000]),
    reach=st.sampled_from([0.35, 0.6, 0.9]),
    min_samples=st.integers(1, 5),
    chunk=st.integers(1, 7),
)
def test_the_forest_is_a_minimum_spanning_one_however_the_pairs_come(
    n: int, seed: int, steps: int, reach: float, min_samples: int, chunk: int
) -> None:
    distances = random_distances(n, seed, steps)
    forest = spanning_forest(n, chunks_of(distances, reach, chunk), min_samples)
    d = reachability(distances, reach, min_samples)
    expected = minimum_spanning_tree(np.where(np.isfinite(d), d + 1.0, 0.0))  # scipy takes 0 for no edge
    assert forest.nnz == expected.nnz and forest.sum() + forest.nnz == pytest.approx(expected.sum())
    rows, columns = forest.nonzero()
    np.testing.assert_allclose(forest.data, d[rows, columns])


@pytest.mark.parametrize("min_cluster_size", [4, 8, 20])
def test_clear_clusters_are_those_of_the_dense_matrix(min_cluster_size: int) -> None:
    features = reference.blobs(400, noise=0.8)
    distances = reference.jaccard(features).astype(np.float64)
    dense = Dense(metric="precomputed", min_samples=4, min_cluster_size=min_cluster_size, copy=True)
    expected = dense.fit_predict(np.where(distances <= 0.8, distances, 1.0))
    found = HDBSCAN(min_cluster_size=min_cluster_size)(torch.from_numpy(features))
    assert found.n_clusters == expected.max() + 1
    assert adjusted_rand_score(as_partition(expected), as_partition(found.labels)) == 1.0


@pytest.mark.parametrize("noise", [1.5, 2.0, 2.5])
def test_overlapping_clusters_are_nearly_those_of_the_dense_matrix(noise: float) -> None:
    """Many pairs lie equally far, and where trees differ in which of them they take, so may a few labels."""
    features = reference.blobs(400, noise=noise)
    distances = reference.jaccard(features).astype(np.float64)
    dense = Dense(metric="precomputed", min_samples=4, min_cluster_size=8, copy=True)
    expected = dense.fit_predict(np.where(distances <= 0.8, distances, 1.0))
    found = HDBSCAN()(torch.from_numpy(features))
    assert adjusted_rand_score(as_partition(expected), as_partition(found.labels)) > 0.9


def blocks(*sizes: int, near: float = 0.2) -> np.ndarray:
    """Distances of groups that are near within and have nothing to do with each other."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    distances = np.where(group[:, None] == group[None, :], near, 1.0)
    np.fill_diagonal(distances, 0.0)
    return distances.astype(np.float32)


def labels_of(distances: np.ndarray, min_cluster_size: int = 5, min_samples: int = 3) -> list[int]:
    forest = spanning_forest(len(distances), chunks_of(distances, 0.8, 7), min_samples)
    return clusters_of_forest(forest, min_cluster_size).tolist()


def test_components_are_clusters_numbered_by_their_first_row() -> None:
    assert labels_of(blocks(6, 9, 5)) == [0] * 6 + [1] * 9 + [2] * 5


def test_small_components_and_rows_with_few_neighbours_are_outliers() -> None:
    assert labels_of(blocks(6, 4, 9, 1, 1)) == [0] * 6 + [OUTLIER] * 4 + [1] * 9 + [OUTLIER] * 2


def test_many_lonely_rows_are_no_cluster() -> None:
    assert labels_of(blocks(*[1] * 40)) == [OUTLIER] * 40
    assert labels_of(blocks(*[1] * 40, 6, 6)) == [OUTLIER] * 40 + [0] * 6 + [1] * 6


def test_copies_and_one_component_end_well() -> None:
    assert labels_of(blocks(6, 7, near=0.0)) == [0] * 6 + [1] * 7
    assert set(labels_of(blocks(30))) == {OUTLIER}  # all rows together are never one cluster
    assert labels_of(blocks(1)) == [OUTLIER]


def test_clusters_of_two_densities_are_found_where_no_eps_finds_both() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 24))
    spread = np.where(np.arange(8) < 4, 0.25, 0.9)
    identity = np.repeat(np.arange(8), 40)
    features = (1 + centres[identity] + spread[identity, None] * rng.normal(size=(320, 24))).astype(np.float32)
    found = HDBSCAN(min_cluster_size=12)(torch.from_numpy(features))
    assert found.n_clusters == 8
    assert adjusted_rand_score(identity, as_partition(found.labels)) > 0.9
    assert set(found.seconds) == {"check", "search", "encode", "expand", "cluster"}


@pytest.mark.parametrize("wrong", [{"min_samples": 0}, {"min_cluster_size": 1}, {"reach": 1.0}, {"reach": 0.0}])
def test_arguments_out_of_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="min_samples is 1 or more, min_cluster_size 2 or more, reach between 0 and 1"):
        HDBSCAN(**wrong)  # type: ignore[arg-type]


def test_it_is_no_dbscan() -> None:
    features = torch.from_numpy(reference.blobs(400, noise=1.5))
    assert not np.array_equal(HDBSCAN()(features).labels, DBSCAN()(features).labels)


@pytest.mark.slow
def test_two_epochs_train_with_it(tiny_options: Callable[..., list[str]]) -> None:
    keys = tiny_options(
        "MGOT.CLUSTER.NAME", "hdbscan", "MGOT.CLUSTER.MIN_CLUSTER_SIZE", 6, "MGOT.TEST.STAGES", ["final"]
    )
    cfg = load_config(DEMO, keys)
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(cfg.SEED)
    train(cfg, resume=False)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    labelled = [line for line in lines if "visible/clusters" in line]
    assert len(labelled) == 2 and all(line["visible/clusters"] > 1 for line in labelled)
    assert any("loss_mcl" in line for line in lines)
    assert all(np.isfinite(line["total_loss"]) for line in lines if "total_loss" in line)
    assert json.loads((folder / "results.json").read_text())["ground_truth"] == ""
