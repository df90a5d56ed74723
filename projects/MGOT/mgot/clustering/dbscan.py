"""DBSCAN over pairs that come in chunks and are not kept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mgot.clustering.base import OUTLIER
from mgot.clustering.jaccard import Pairs
from mgot.compiled import compiled


@compiled()
def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled()
def _absorb(pairs: Pairs, min_samples: int, core: np.ndarray, parent: np.ndarray, few: np.ndarray) -> None:
    start = 0
    for r in range(pairs.ends.shape[0]):
        i, stop = pairs.first + r, pairs.ends[r]
        core[i] = stop - start >= min_samples
        for place in range(start, stop):
            j = pairs.columns[place]
            if not core[i]:
                few[i, place - start] = j
            elif j < i and core[j]:
                a, b = _root(parent, i), _root(parent, j)
                parent[max(a, b)] = min(a, b)
        start = stop


@compiled()
def _label(core: np.ndarray, parent: np.ndarray, few: np.ndarray, labels: np.ndarray) -> int:
    clusters = 0
    for i in range(core.shape[0]):
        if core[i]:
            root = _root(parent, i)
            if root == i:
                labels[i] = clusters
                clusters += 1
            else:
                labels[i] = labels[root]
    for i in range(core.shape[0]):
        if not core[i]:
            for j in few[i]:
                if j >= 0 and core[j] and (labels[i] < 0 or labels[j] < labels[i]):
                    labels[i] = labels[j]
    return clusters


def dbscan(total: int, chunks: Iterable[Pairs], min_samples: int) -> tuple[np.ndarray, int]:
    """DBSCAN labels, those of scikit-learn's on the dense matrix, numbers included.

    A row with at least `min_samples` rows within eps, itself counted, is a core. Cores within eps of each other share a
    cluster. Clusters are numbered by their first core. Any other row joins the lowest cluster that has a core within
    eps of it; if there is none, it is an outlier. The pairs are symmetric, so a core is joined only to the cores before
    it. Only pairs of rows that are not cores are kept, fewer than min_samples for each row. So memory is O(N
    min_samples).

    Args:
        total: N.
        chunks: pairs within eps, rows in ascending order, each row among its own.
        min_samples: at least 1.

    Returns:
        ((N,) int64 labels, number of clusters); all OUTLIER and 0 if there is no core.
    """
    core = np.zeros(total, dtype=np.bool_)
    parent = np.arange(total, dtype=np.int64)
    few = np.full((total, max(1, min(min_samples - 1, total))), OUTLIER, dtype=np.int32)
    for pairs in chunks:
        _absorb(pairs, min_samples, core, parent, few)
    labels = np.full(total, OUTLIER, dtype=np.int64)
    return labels, int(_label(core, parent, few, labels))
