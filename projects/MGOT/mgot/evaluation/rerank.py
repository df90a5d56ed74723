"""k-reciprocal re-ranking of a search. It is transductive, so its figures are in separate rows.

Notation: N_q queries, N_g gallery images, N = N_q + N_g, D feature dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mgot.compiled import compiled, over_rows
from mgot.errors import UserError
from mgot.neighbours import Rows, check_features, encode, expand, nearest, transposed


class Reranking(NamedTuple):
    """Settings of re-ranking.

    Attributes:
        k1: nearest neighbours that may be reciprocal, oneself not counted.
        k2: neighbours that local query expansion averages over, oneself counted; 1 switches it off.
        weight: lambda in [0, 1], the share of the original distance.
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3


DEFAULTS = Reranking()


def reranked_distances(query: np.ndarray, gallery: np.ndarray, setting: Reranking = DEFAULTS) -> np.ndarray:
    """Distances after re-ranking over the union of queries and gallery.

        d*(q, g) = (1 - lambda) J(q, g) + lambda d(q, g) / max_x d(q, x),   d = 2 - 2 cos

    with J the k-reciprocal Jaccard distance of :mod:`mgot.clustering.jaccard`. Source: Zhong et al., Re-ranking Person
    Re-identification with k-reciprocal Encoding, CVPR 2017, with its defaults [field]; the neighbours' weights are
    exp(-d) without its division by the largest distance, as in the pseudo labels [ours].

    Args:
        query: (N_q, D) floats.
        gallery: (N_g, D) floats.
        setting: k1, k2, lambda.

    Returns:
        (N_q, N_g) float32 in [0, 1].

    Raises:
        UserError: a setting out of its range, or features that are zero or not finite.
    """
    if setting.k1 < 1 or not 1 <= setting.k2 <= setting.k1 + 1 or not 0 <= setting.weight <= 1:
        raise UserError(f"re-ranking needs k1 >= 1, 1 <= k2 <= k1 + 1 and lambda in [0, 1], not {tuple(setting)}")
    features = check_features(np.concatenate((query, gallery)))
    total = len(features.norms)
    neighbours = nearest(features, min(setting.k1 + 1, total))
    weights = encode(features, neighbours, int(np.around(setting.k1 / 2)) + 1)
    weights = expand(weights, neighbours, min(setting.k2, neighbours.ids.shape[1]))
    unit = features.rows / features.norms[:, None].astype(np.float32)
    original = np.maximum(2 - 2 * (unit[: len(query)] @ unit.T), 0)
    original /= np.maximum(original.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    jaccard = _jaccard(weights, len(query))
    return ((1 - setting.weight) * jaccard + setting.weight * original[:, len(query) :]).astype(np.float32)


def _jaccard(weights: Rows, n_query: int) -> np.ndarray:
    """(N_q, N_g) Jaccard distances of the first rows to the others."""
    total = len(weights.start) - 1
    cut = weights.start[n_query]
    begin = np.concatenate((np.zeros(n_query, dtype=np.int64), weights.start[n_query:] - cut))
    inverse = transposed(Rows(begin, weights.ids[cut:], weights.value[cut:]))
    overlap = np.zeros((n_query, total - n_query), dtype=np.float32)
    over_rows(lambda start, stop: _overlap(*weights, *inverse, n_query, start, stop, overlap), n_query)
    return np.maximum(1 - overlap / (2 - overlap), 0)


@compiled()
def _overlap(  # type: ignore[no-untyped-def]
    begin, index, value, inverse_begin, inverse_index, inverse_value, n_query, start, stop, overlap
):
    """overlap[q, g] = sum_c min(V[q, c], V[g, c]); the inverse lists, for a column c, the gallery rows that have it."""
    for q in range(start, stop):
        for place in range(begin[q], begin[q + 1]):
            c = index[place]
            for at in range(inverse_begin[c], inverse_begin[c + 1]):
                overlap[q, inverse_index[at] - n_query] += min(value[place], inverse_value[at])
