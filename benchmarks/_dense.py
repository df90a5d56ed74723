"""The plain reference of the pseudo labels: the released codes' algorithm, with dense N x N matrices and row loops.

Same definition as `mgot.clustering.cluster`, in float32 throughout and with faiss's flat search, as those codes run it
on a CPU. Kept for comparison, never imported by the package.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np
from sklearn.cluster import DBSCAN

from mgot.neighbours.external import require_faiss

SPARE = 8


class Dense(NamedTuple):
    """What the reference found.

    Attributes:
        labels: (N,) int64.
        distances: (N, N) float32.
        seconds: wall time by stage; "order" is no part of the released codes.
    """

    labels: np.ndarray
    distances: np.ndarray
    seconds: dict[str, float]


def _in_order(features: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Order each list by exact cosines, oneself first, equal ones by index.

    The search's rounding decides who comes k-th where two distances are within 1e-7 of each other, and with another
    library, block size or machine it decides otherwise: without this no two codes could be compared label by label.
    """
    exact = features.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    ordered = np.empty_like(lists)
    for i, found in enumerate(lists):
        cosines = (exact[found] @ exact[i]).astype(np.float32)
        ordered[i] = found[np.lexsort((found, -cosines, found != i))]
    return ordered


def _mutual(lists: np.ndarray, i: int, k: int) -> np.ndarray:
    forward = lists[i, :k]
    return forward[(lists[forward, :k] == i).any(axis=1)]


def _weights(unit: np.ndarray, lists: np.ndarray, k1: int) -> np.ndarray:
    total, half = len(unit), int(np.around(k1 / 2)) + 1
    long = [_mutual(lists, i, k1) for i in range(total)]
    short = [_mutual(lists, i, half) for i in range(total)]
    weights = np.zeros((total, total), dtype=np.float32)
    for i in range(total):
        parts = [long[i]]
        for j in long[i]:
            if len(np.intersect1d(short[j], long[i])) > 2 / 3 * len(short[j]):
                parts.append(short[j])
        members = np.unique(np.concatenate(parts))
        weight = np.exp(2 * (unit[members] @ unit[i]) - 2)
        weights[i, members] = weight / weight.sum()
    return weights


def _distances(weights: np.ndarray) -> np.ndarray:
    total = len(weights)
    users = [np.flatnonzero(weights[:, c]) for c in range(total)]
    distances = np.zeros((total, total), dtype=np.float32)
    for i in range(total):
        shared = np.zeros(total, dtype=np.float32)
        for c in np.flatnonzero(weights[i]):
            shared[users[c]] += np.minimum(weights[i, c], weights[users[c], c])
        distances[i] = 1 - shared / (2 - shared)
    return np.maximum(distances, 0, out=distances)


def dense_pseudo_labels(features: np.ndarray, *, k1: int, k2: int, eps: float, min_samples: int) -> Dense:
    """Pseudo labels by three dense N x N float32 matrices.

    Args:
        features: (N, D) float32, no row a copy of another.
        k1, k2, eps, min_samples: as of `mgot.clustering.cluster`.
    """
    seconds, start = {}, perf_counter()

    def stage(name: str) -> None:
        nonlocal start
        seconds[name], start = perf_counter() - start, perf_counter()

    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    index = require_faiss("the plain reference").IndexFlatL2(unit.shape[1])
    index.add(unit)
    lists = index.search(unit, min(k1 + SPARE, len(unit)))[1]
    stage("search")
    lists = _in_order(features, lists)[:, :k1]
    stage("order")
    weights = _weights(unit, lists, k1)
    stage("encode")
    if k2 != 1:
        averaged = np.zeros_like(weights)
        for i in range(len(weights)):
            averaged[i] = weights[lists[i, :k2]].mean(axis=0)
        weights = averaged
        del averaged
    stage("expand")
    distances = _distances(weights)
    del weights
    stage("distances")
    labels = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(distances)
    stage("cluster")
    return Dense(labels, distances, seconds)
