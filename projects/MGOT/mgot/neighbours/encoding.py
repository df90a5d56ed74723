"""k-reciprocal encoding: neighbour lists in, sparse weights out.

Notation: N(i, k) the k nearest of i, i itself first; R(i, k) its k-reciprocal set; V weights. Nothing is N x N:
memory is O(N k).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mgot.compiled import chunk_size, compiled, map_rows, over_rows
from mgot.neighbours.features import Features, cosine
from mgot.neighbours.ranking import Neighbours
from mgot.neighbours.rows import Rows, join

ENTRIES_AT_ONCE = 1 << 22


@compiled()
def _contains(values: np.ndarray, wanted: int) -> bool:
    found = False
    for value in values:
        found |= value == wanted
    return found


@compiled()
def _reciprocal(there: np.ndarray, back: np.ndarray, reciprocal: np.ndarray, start: int, stop: int) -> None:
    for i in range(start, stop):
        for c in range(there.shape[1]):
            reciprocal[i, c] = _contains(back[there[i, c]], i)


def reciprocal_neighbours(there: np.ndarray, back: np.ndarray | None = None) -> np.ndarray:
    """Which neighbours are mutual: R(i, k) = {j in N(i, k): i in N(j, k)}.

    Args:
        there: (N, k) neighbours of each row, among M rows.
        back: (M, k') neighbours of those among the N; None if both are one set.

    Returns:
        (N, k) bool: entry (i, c) says whether the c-th neighbour of i is in R(i, k).
    """
    reciprocal = np.empty(there.shape, dtype=np.bool_)
    over_rows(partial(_reciprocal, there, there if back is None else back, reciprocal), len(there))
    return reciprocal


@compiled()
def _similarity(i: int, j: int, known: Neighbours, features: Features) -> np.float32:
    for c in range(known.ids.shape[1]):
        if known.ids[i, c] == j:
            return known.similarity[i, c]
    for c in range(known.ids.shape[1]):
        if known.ids[j, c] == i:
            return known.similarity[j, c]
    return cosine(features, i, features, j)


@compiled()
def _members(
    i: int, index: np.ndarray, full: np.ndarray, half: np.ndarray, mark: np.ndarray, members: np.ndarray
) -> int:
    """List R*(i); returns its size. mark[m] is 2 i for members of R(i, k1), 2 i + 1 for added ones, less for others."""
    size = 0
    for c in range(full.shape[1]):
        if full[i, c]:
            mark[index[i, c]] = 2 * i
            members[size] = index[i, c]
            size += 1
    for place in range(size):
        j = members[place]
        others, shared = 0, 0
        for c in range(half.shape[1]):
            if half[j, c]:
                others += 1
                shared += mark[index[j, c]] == 2 * i
        if 3 * shared > 2 * others:
            for c in range(half.shape[1]):
                m = index[j, c]
                if half[j, c] and mark[m] < 2 * i:
                    mark[m] = 2 * i + 1
                    members[size] = m
                    size += 1
    return size


@compiled()
def _encode(
    features: Features, known: Neighbours, full: np.ndarray, half: np.ndarray, widest: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = np.zeros(stop - start, dtype=np.int64)
    columns = np.empty((stop - start) * widest, dtype=np.int32)
    weights = np.empty((stop - start) * widest, dtype=np.float32)
    mark = np.zeros(full.shape[0], dtype=np.int64) - 1
    end = 0
    for i in range(start, stop):
        first = end
        end += _members(i, known.ids, full, half, mark, columns[first:])
        total = 0.0
        for place in range(first, end):
            weights[place] = _similarity(i, columns[place], known, features)
            total += np.exp(2.0 * weights[place] - 2.0)
        for place in range(first, end):
            weights[place] = np.exp(2.0 * weights[place] - 2.0) / total
        ends[i - start] = end
    return ends, columns[:end].copy(), weights[:end].copy()


def encode(features: Features, neighbours: Neighbours, half: int) -> Rows:
    """The weights of each row's expanded k-reciprocal set.

        R*(i) = R(i, k1)  united with every  R(j, half), j in R(i, k1),  for which
                |R(j, half) & R(i, k1)| > 2/3 |R(j, half)|
        V[i, j] = exp(-d_ij) / sum_{m in R*(i)} exp(-d_im)  for j in R*(i), else 0;   d_ij = 2 - 2 cos(f_i, f_j)

    Args:
        features: (N, D).
        neighbours: the k1 nearest of each row, itself first.
        half: length of the shorter lists, at least 1; longer than k1 counts as k1.

    Returns:
        (N, N) weights; each row sums to 1 and holds at least the diagonal. Columns are in no order.
    """
    full = reciprocal_neighbours(neighbours.ids)
    short = reciprocal_neighbours(np.ascontiguousarray(neighbours.ids[:, :half]))
    total = len(full)
    widest = min(full.shape[1] * (short.shape[1] + 1), total)
    chunk = max(1, min(ENTRIES_AT_ONCE // widest, chunk_size(total)))
    return join(map_rows(partial(_encode, features, neighbours, full, short, widest), total, chunk))


@compiled()
def _average(
    weights: Rows, index: np.ndarray, k2: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bound = 0
    for i in range(start, stop):
        for c in range(k2):
            bound += weights.start[index[i, c] + 1] - weights.start[index[i, c]]
    ends = np.zeros(stop - start, dtype=np.int64)
    columns = np.empty(bound, dtype=np.int32)
    values = np.empty(bound, dtype=np.float32)
    total = np.zeros(index.shape[0], dtype=np.float64)
    end = 0
    for i in range(start, stop):
        first = end
        for c in range(k2):
            j = index[i, c]
            for place in range(weights.start[j], weights.start[j + 1]):
                column = weights.ids[place]
                if total[column] == 0.0:
                    columns[end] = column
                    end += 1
                total[column] += weights.value[place]
        for place in range(first, end):
            values[place] = total[columns[place]] / k2
            total[columns[place]] = 0.0
        ends[i - start] = end
    return ends, columns[:end].copy(), values[:end].copy()


def expand(weights: Rows, neighbours: Neighbours, k2: int) -> Rows:
    """Local query expansion: V'[i] = (1 / k2) sum_{j in N(i, k2)} V[j]; k2 = 1 returns the weights as they are."""
    if k2 == 1:
        return weights
    total = len(neighbours.ids)
    chunk = max(1, min(ENTRIES_AT_ONCE // (k2 * neighbours.ids.shape[1]), chunk_size(total)))
    return join(map_rows(partial(_average, weights, neighbours.ids, k2), total, chunk))
