"""Pseudo labels by HDBSCAN: clusters of any density, with no eps.

Notation: J Jaccard distance; c_i distance of row i to its min_samples-th nearest row, itself counted; N rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from torch import Tensor

from mgot.clustering.base import OUTLIER, Clustering, register_clusterer
from mgot.clustering.jaccard import Pairs, pairs_within
from mgot.clustering.weights import Watch, neighbour_weights
from mgot.errors import UserError

NEAREST = 1e-3  # smaller distances count as this one: scipy's trees take 0 for no edge
APART = 1.0  # the largest Jaccard distance
STEP = 1e-6  # by which each further component lies farther off, so that no two of them join at one distance


@register_clusterer("hdbscan")
@dataclass(frozen=True)
class HDBSCAN:
    """HDBSCAN of scikit-learn on the k-reciprocal Jaccard distance of :func:`mgot.clustering.cluster`.

        d(i, j) = max(c_i, c_j, J(i, j)) where J(i, j) <= reach, else no neighbours

    Three kinds of rows are outliers: rows with no c_i within reach, rows in components of less than min_cluster_size
    rows, and rows that the hierarchy of d leaves out. The components are joined to one hierarchy at distances above 1.
    Its most stable clusters are taken (excess of mass). As in scikit-learn, all rows together are never one cluster.

    The hierarchy is built from a minimum spanning tree of d. The tree grows with each chunk of pairs, so memory is O(N
    + pairs of a chunk), with no N x N matrix.

    Source: [ours]; Campello et al., PAKDD 2013.

    Args:
        k1, k2, search: as in :func:`mgot.clustering.cluster`.
        min_samples: at least 1.
        min_cluster_size: fewest images of a cluster, at least 2.
        reach: in (0, 1). With a larger one, more pairs are compared and a cluster may be sparser.

    Raises:
        UserError: an argument out of its range, or unusable features.
    """

    k1: int = 30
    k2: int = 6
    min_samples: int = 4
    min_cluster_size: int = 8
    reach: float = 0.8
    search: str = "auto"

    def __post_init__(self) -> None:
        if self.min_samples < 1 or self.min_cluster_size < 2 or not 0.0 < self.reach < 1.0:
            raise UserError(f"{self}: min_samples is 1 or more, min_cluster_size 2 or more, reach between 0 and 1")

    def __call__(self, features: Tensor) -> Clustering:
        """Clusters of the (N, D) features of one modality; if there is no cluster, all are outliers."""
        watch = Watch()
        weights = neighbour_weights(features, self.k1, self.k2, self.search, None, watch)
        tree = spanning_forest(len(weights.start) - 1, pairs_within(weights, self.reach), self.min_samples)
        labels = clusters_of_forest(tree, self.min_cluster_size)
        watch.stage("cluster")
        return Clustering(labels, int(labels.max()) + 1, watch.seconds)


def spanning_forest(total: int, chunks: Iterable[Pairs], min_samples: int) -> csr_matrix:
    """Minimum spanning forest of d.

    A chunk's rows are complete, so their c_i are known. A pair is used at its later row, when both c_i are known. An
    edge that is not in the tree of the pairs so far is not in any later tree.

    Args:
        total: N.
        chunks: pairs within reach, rows in ascending order, each row among its own.
        min_samples: at least 1.

    Returns:
        (N, N) with at most N - 1 entries, distances of at least NEAREST; rows without c_i have no entry.
    """
    core = np.full(total, np.inf)
    tree = coo_matrix((total, total))
    for pairs in chunks:
        rows = pairs.first + np.repeat(np.arange(len(pairs.ends)), np.diff(pairs.ends, prepend=0))
        _put_cores(pairs, min_samples, core)
        distances = np.maximum(np.maximum(core[rows], core[pairs.columns]), np.maximum(pairs.distances, NEAREST))
        new = (pairs.columns < rows) & np.isfinite(distances)
        data = np.concatenate([tree.data, distances[new]])
        row, column = np.concatenate([tree.row, rows[new]]), np.concatenate([tree.col, pairs.columns[new]])
        tree = coo_matrix(minimum_spanning_tree(coo_matrix((data, (row, column)), shape=(total, total)).tocsr()))
    return tree.tocsr()


def _put_cores(pairs: Pairs, min_samples: int, core: np.ndarray) -> None:
    """Set c_i of the chunk's rows that have enough pairs, in place."""
    start = 0
    for row, stop in enumerate(pairs.ends, pairs.first):
        if stop - start >= min_samples:
            core[row] = np.partition(pairs.distances[start:stop], min_samples - 1)[min_samples - 1]
        start = stop


def clusters_of_forest(forest: csr_matrix, min_cluster_size: int) -> np.ndarray:
    """(N,) labels of the most stable clusters, numbered by their first row; OUTLIER elsewhere."""
    labels = np.full(forest.shape[0], OUTLIER, dtype=np.int64)
    component = connected_components(forest, directed=False)[1]
    sizes = np.bincount(component)
    kept = np.flatnonzero(sizes[component] >= min_cluster_size)
    if len(kept) > min_cluster_size:
        tree = _joined(forest[kept][:, kept], component[kept], sizes)
        from sklearn.cluster import HDBSCAN as Hierarchy  # here: it takes a second to import

        found = Hierarchy(min_cluster_size=min_cluster_size, min_samples=1, metric="precomputed", copy=True)
        labels[kept] = found.fit_predict(tree + tree.T)
    return _numbered(labels)


def _joined(forest: csr_matrix, component: np.ndarray, sizes: np.ndarray) -> csr_matrix:
    """The forest as one tree: the largest component first, each further one a little farther off."""
    names, first = np.unique(component, return_index=True)
    ends = first[np.argsort(-sizes[names], kind="stable")]
    joints = APART + STEP * np.arange(1, len(ends))
    data = np.concatenate([forest.tocoo().data, joints])
    row, column = np.concatenate([forest.tocoo().row, ends[1:]]), np.concatenate([forest.tocoo().col, ends[:-1]])
    return coo_matrix((data, (row, column)), shape=forest.shape).tocsr()


def _numbered(labels: np.ndarray) -> np.ndarray:
    """The same clusters, numbered by their first rows."""
    names, first = np.unique(labels[labels != OUTLIER], return_index=True)
    number = np.empty(len(names), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(names))
    return np.where(labels == OUTLIER, OUTLIER, number[labels]) if len(names) else labels
