"""Sparse matrices by rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mgot.compiled import compiled


class Rows(NamedTuple):
    """A sparse matrix by rows: row i holds `value` at columns `ids`, both sliced [start[i]:start[i + 1]].

    Attributes:
        start: (N + 1,) int64.
        ids: int32.
        value: float32.
    """

    start: np.ndarray
    ids: np.ndarray
    value: np.ndarray


@compiled()
def _transpose(matrix: Rows, result: Rows) -> None:
    total = matrix.start.shape[0] - 1
    for place in range(matrix.start[total]):
        result.start[matrix.ids[place] + 1] += 1
    for column in range(total):
        result.start[column + 1] += result.start[column]
    cursor = result.start[:-1].copy()
    for i in range(total):
        for place in range(matrix.start[i], matrix.start[i + 1]):
            to = cursor[matrix.ids[place]]
            result.ids[to] = i
            result.value[to] = matrix.value[place]
            cursor[matrix.ids[place]] = to + 1


def transposed(matrix: Rows) -> Rows:
    """The (N, N) matrix by columns: row c of the result lists the rows that have a value at c, in ascending order."""
    result = Rows(np.zeros_like(matrix.start), np.empty_like(matrix.ids), np.empty_like(matrix.value))
    _transpose(matrix, result)
    return result


def join(parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Rows:
    """Chunks of consecutive rows, each (ends of its rows, columns, values), as one matrix."""
    starts, columns, values, end = [np.zeros(1, dtype=np.int64)], [], [], 0
    for ends, index, value in parts:
        starts.append(ends + end)
        columns.append(index)
        values.append(value)
        end += len(index)
    return Rows(np.concatenate(starts), np.concatenate(columns), np.concatenate(values))
