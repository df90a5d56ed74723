"""Pseudo labels by dense matrices and plain loops: what tests/test_clustering*.py compare with.

The same rules of rounding and of ties as `mgot.clustering`, reached another way: each stored quantity is computed in
double and rounded to single.
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import DBSCAN


def cosines(features: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """(N, M) float32."""
    a = features.astype(np.float64)
    b = a if others is None else others.astype(np.float64)
    lengths = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    return ((a @ b.T) / lengths).astype(np.float32)


def nearest(features: np.ndarray, k: int, side: np.ndarray | None = None) -> np.ndarray:
    """(N, k) itself first, then by falling cosine, then by index; with sides one of the other and one of its own."""
    similarity, lists = cosines(features), []
    for i in range(len(features)):
        others = [j for j in range(len(features)) if j != i]
        order = [i, *sorted(others, key=lambda j: (-similarity[i, j], j))]
        if side is not None:
            own, other = ([j for j in order if (side[j] == side[i]) == same] for same in (True, False))
            order = [j for pair in zip(own, other, strict=False) for j in pair]
        lists.append(order[:k])
    return np.array(lists)


def reciprocal(lists: np.ndarray, i: int, k: int) -> list[int]:
    """R(i, k)."""
    return [j for j in lists[i, :k] if i in lists[j, :k]]


def weights(features: np.ndarray, k1: int, k2: int, side: np.ndarray | None = None) -> np.ndarray:
    """(N, N) float32, averaged over k2."""
    similarity, lists = cosines(features), nearest(features, k1, side)
    total, half = len(features), int(np.around(k1 / 2)) + 1
    result = np.zeros((total, total), dtype=np.float32)
    for i in range(total):
        near = reciprocal(lists, i, k1)
        members = set(near)
        for j in near:
            others = reciprocal(lists, j, half)
            if len(set(others) & set(near)) > 2 / 3 * len(others):
                members |= set(others)
        order = sorted(members)
        weight = np.exp(-(2 - 2 * similarity[i, order].astype(np.float64)))
        result[i, order] = weight / weight.sum()
    if k2 == 1:
        return result
    return np.stack([result[lists[i, :k2]].astype(np.float64).mean(axis=0) for i in range(total)]).astype(np.float32)


def jaccard(features: np.ndarray, k1: int = 30, k2: int = 6, side: np.ndarray | None = None) -> np.ndarray:
    """(N, N) float32 distances."""
    weight = weights(features, k1, k2, side).astype(np.float64)
    result = np.empty((len(weight), len(weight)), dtype=np.float32)
    for i in range(len(weight)):
        shared = np.minimum(weight[i], weight).sum(axis=1)
        result[i] = np.maximum(1 - shared / (2 - shared), 0)
    return result


def labels(
    features: np.ndarray,
    k1: int = 30,
    k2: int = 6,
    eps: float = 0.6,
    min_samples: int = 4,
    side: np.ndarray | None = None,
) -> np.ndarray:
    """(N,) labels of scikit-learn's DBSCAN on the dense matrix."""
    return DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(jaccard(features, k1, k2, side))


def blobs(n: int, dimension: int = 24, *, identities: int = 12, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noisy copies of some centres, off the origin as a network's features are; noise 2 and more overlaps them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(identities, dimension))
    features = 1 + centres[rng.integers(identities, size=n)] + noise * rng.normal(size=(n, dimension))
    return features.astype(np.float32)
