"""Jaccard distances of sparse weights, only for pairs that can be near.

Notation: V weights, rows summing to 1; s overlap of two rows; J distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mgot.compiled import chunk_size, compiled, map_rows
from mgot.neighbours import Rows, transposed

PAIRS_AT_ONCE = 1 << 22
ROUNDING = 1e-6  # far above what rounding takes from a sum of weights, far below what tells pairs apart
PRUNE = 0.5  # share of t at which summing whole columns gives way to looking rows up; 0.3 to 0.6 take the same time


class Pairs(NamedTuple):
    """Near pairs of a chunk of rows.

    Attributes:
        first: the chunk's first row.
        ends: (n,) int64; row `first + r` has the columns and distances [ends[r - 1]:ends[r]].
        columns: int32, in no order, the row itself among them.
        distances: float32.
    """

    first: int
    ends: np.ndarray
    columns: np.ndarray
    distances: np.ndarray


@compiled()
def _cut(weights: Rows, users: np.ndarray, least: float, cuts: np.ndarray, bounds: np.ndarray) -> None:
    """Where each row's rare columns end: the weight after cuts[i, 0] is below t, that after cuts[i, 1] below t / 2."""
    total = weights.start.shape[0] - 1
    for i in range(total):
        place, stop, rest, bound = weights.start[i], weights.start[i + 1], 0.0, 0
        for at in range(place, stop):
            rest += weights.value[at]
        while place < stop and rest >= least:
            bound += users[weights.ids[place]]
            rest -= weights.value[place]
            place += 1
        cuts[i, 0], bounds[i] = place, min(bound, total)
        while place < stop and rest >= PRUNE * least:
            rest -= weights.value[place]
            place += 1
        cuts[i, 1] = place


@compiled()
def _overlap(i: int, weights: Rows, inverse: Rows, cuts: np.ndarray, overlap: np.ndarray, met: np.ndarray) -> int:
    """Sum the overlap of i up to the second cut, with rows that share a column before the first; their number."""
    count = 0
    for place in range(weights.start[i], cuts[i, 0]):
        column, weight = weights.ids[place], weights.value[place]
        for at in range(inverse.start[column], inverse.start[column + 1]):
            j = inverse.ids[at]
            if overlap[j] == 0.0:
                met[count] = j
                count += 1
            overlap[j] += min(weight, inverse.value[at])
    for place in range(cuts[i, 0], cuts[i, 1]):
        column, weight = weights.ids[place], weights.value[place]
        for at in range(inverse.start[column], inverse.start[column + 1]):
            j = inverse.ids[at]
            if overlap[j] > 0.0:
                overlap[j] += min(weight, inverse.value[at])
    return count


@compiled()
def _within(
    weights: Rows, inverse: Rows, least: float, eps: np.float32, cuts: np.ndarray, room: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    total = weights.start.shape[0] - 1
    ends = np.zeros(stop - start, dtype=np.int64)
    columns = np.empty(room, dtype=np.int32)
    distances = np.empty(room, dtype=np.float32)
    overlap = np.zeros(total, dtype=np.float64)
    mine = np.zeros(total, dtype=np.float32)
    met = np.empty(total, dtype=np.int32)
    end = 0
    for i in range(start, stop):
        count = _overlap(i, weights, inverse, cuts, overlap, met)
        common, row_end, rest = cuts[i, 1], weights.start[i + 1], 0.0
        first_common = weights.ids[common] if common < row_end else total
        for place in range(common, row_end):
            rest += weights.value[place]
            mine[weights.ids[place]] = weights.value[place]
        for c in range(count):
            j = met[c]
            shared = overlap[j]
            overlap[j] = 0.0
            if shared + rest < least:
                continue
            place = weights.start[j + 1]
            while place > weights.start[j] and weights.ids[place - 1] >= first_common:
                place -= 1
            for at in range(place, weights.start[j + 1]):
                shared += min(mine[weights.ids[at]], weights.value[at])
            distance = np.float32(max(1.0 - shared / (2.0 - shared), 0.0))
            if distance <= eps:
                columns[end] = j
                distances[end] = distance
                end += 1
        for place in range(common, row_end):
            mine[weights.ids[place]] = 0.0
        ends[i - start] = end
    return ends, columns[:end].copy(), distances[:end].copy()


def pairs_within(weights: Rows, eps: float) -> Iterator[Pairs]:
    """Every ordered pair with J <= eps, chunk by chunk.

        J(i, j) = max(0, 1 - s / (2 - s)),   s = sum_c min(V[i, c], V[j, c])

    J <= eps means s >= t = 2 (1 - eps) / (2 - eps). The columns are ordered from rare to common. At some column the
    weight of i in the remaining columns falls below t. From there on, a row that shared no earlier column cannot be a
    neighbour. Neither can a row for which the sum so far and that weight are below t together. So the common columns,
    which many rows share, are looked up for few rows only.

    Sums are computed in double, in the same order of the columns for (i, j) and (j, i). J and eps are both rounded to
    single before they are compared.

    Args:
        weights: (N, N), rows summing to 1, columns in any order.
        eps: in (0, 1).

    Yields:
        The rows in ascending order, in chunks of at most some million pairs or of one row.
    """
    total = len(weights.start) - 1
    users = np.bincount(weights.ids, minlength=total)
    by_rarity = np.argsort(users, kind="stable")
    rarity = np.empty(total, dtype=np.int32)
    rarity[by_rarity] = np.arange(total, dtype=np.int32)
    inverse = transposed(weights._replace(ids=rarity[weights.ids]))
    ordered = transposed(inverse)
    limit = np.float32(eps)
    least = 2 * (1 - float(limit)) / (2 - float(limit)) - ROUNDING
    cuts, bounds = np.empty((total, 2), dtype=np.int64), np.empty(total, dtype=np.int64)
    _cut(ordered, users[by_rarity], least, cuts, bounds)
    edges = _chunks(bounds, chunk_size(total))

    def run(chunk: int, _: int) -> Pairs:
        start, stop = edges[chunk], edges[chunk + 1]
        room = int(bounds[start:stop].sum())
        return Pairs(start, *_within(ordered, inverse, least, limit, cuts, room, start, stop))

    return map_rows(run, len(edges) - 1, 1)


def _chunks(bounds: np.ndarray, longest: int) -> list[int]:
    """Edges of chunks of at most `longest` rows and PAIRS_AT_ONCE pairs, one row at least."""
    edges, held = [0], 0
    for i, bound in enumerate(bounds.tolist()):
        if i > edges[-1] and (held + bound > PAIRS_AT_ONCE or i - edges[-1] == longest):
            edges.append(i)
            held = 0
        held += bound
    edges.append(len(bounds))
    return edges
