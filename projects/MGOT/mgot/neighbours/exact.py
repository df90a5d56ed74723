"""Exact search in plain single precision, for any data: all similarities of a block of queries at once."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from mgot.compiled import compiled, over_rows
from mgot.neighbours.features import Features, cosine
from mgot.neighbours.ranking import Neighbours, insert

SCORES_AT_ONCE = 1 << 24
GALLERY_AT_ONCE = 1 << 12


def rounding_error(dimension: int) -> float:
    """Bound on |float32 product - exact cosine| of unit vectors: 8 sqrt(D) 2^-24.

    lambda sqrt(D) u bounds the error of a sum of D products with a probability of at least 1 - 2 D exp(-lambda^2 / 2)
    where the roundings are independent (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis,
    2019): 1 - 5e-11 at D = 2,048 and lambda = 8. Sums in lanes and blocks, as in all libraries, have much smaller
    errors.
    """
    return 8.0 * float(np.sqrt(max(dimension, 16))) * 2.0**-24


@compiled()
def _choose(
    scores: np.ndarray,
    enough: np.ndarray,
    chosen: np.ndarray,
    queries: Features,
    gallery: Features,
    own: bool,
    result: Neighbours,
    start: int,
    stop: int,
) -> None:
    k = result.ids.shape[1]
    for r in range(start, stop):
        i = chosen[r]
        first = 0
        if own:
            result.ids[r, 0] = i
            result.similarity[r, 0] = 1.0
            first = 1
        best, similarity, filled = result.ids[r, first:], result.similarity[r, first:], 0
        for j in range(scores.shape[1]):
            if filled == k - first and (filled == 0 or similarity[filled - 1] == 1.0):
                break  # no row after j, by index, can come before k rows that equal i: a set of copies ends soon
            if scores[r, j] >= enough[r] and not (own and j == i):
                filled = insert(best, similarity, filled, j, cosine(queries, i, gallery, j))


def _unit(features: Features, chosen: np.ndarray | slice) -> torch.Tensor:
    rows = torch.from_numpy(features.rows[chosen])
    return (rows / torch.from_numpy(features.norms[chosen])[:, None]).float()


def search_rows(queries: Features, gallery: Features | None, chosen: np.ndarray, k: int) -> Neighbours:
    """The exact neighbours of some of the queries.

    Float32 cosines by matrix product; every row with a cosine within twice the rounding error of the k-th is ranked by
    `features.cosine`. Memory: SCORES_AT_ONCE floats, or one row of N.

    Args:
        queries: (N, D).
        gallery: (M, D), or None if the queries search among themselves.
        chosen: (n,) indices of the queries to search for.
        k: at most M.
    """
    own, gallery = gallery is None, gallery or queries
    size = len(gallery.norms)
    result = Neighbours(np.empty((len(chosen), k), dtype=np.int32), np.empty((len(chosen), k), dtype=np.float32))
    block = max(1, SCORES_AT_ONCE // size)
    error = rounding_error(gallery.rows.shape[1])
    for first in range(0, len(chosen), block):
        part = chosen[first : first + block]
        unit = _unit(queries, part)
        scores = torch.empty((len(part), size))
        for column in range(0, size, GALLERY_AT_ONCE):
            columns = slice(column, min(column + GALLERY_AT_ONCE, size))
            scores[:, columns] = unit @ _unit(gallery, columns).T
        enough = scores.topk(k).values[:, -1] - 2.0 * error
        out = Neighbours(result.ids[first : first + block], result.similarity[first : first + block])
        work = partial(_choose, scores.numpy(), enough.numpy(), part, queries, gallery, own, out)
        over_rows(work, len(part), 32)
    return result
