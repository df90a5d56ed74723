"""From candidate neighbours with rough similarities to the exact, ordered ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mgot.compiled import compiled, over_rows
from mgot.neighbours.features import Features, cosine

EMPTY = -1


class Neighbours(NamedTuple):
    """The k nearest gallery rows of each query, nearest first; equal similarities are in the order of their index.

    If queries and gallery are one set, each row is its own first neighbour, even if it has duplicates.

    Attributes:
        ids: (N, k) int32.
        similarity: (N, k) float32, cosines.
    """

    ids: np.ndarray
    similarity: np.ndarray


class Candidates(NamedTuple):
    """Rows that certainly contain the k nearest.

    Attributes:
        ids: (N, C) int32, without each row's own index if queries and gallery are one set.
        rough: (N, C) float32, similarities no further than `error` from the true ones.
        held: (N,) int32, how many of the C are filled; EMPTY if the row is not certain.
        error: (N,) float32.
    """

    ids: np.ndarray
    rough: np.ndarray
    held: np.ndarray
    error: np.ndarray


@compiled()
def insert(index: np.ndarray, similarity: np.ndarray, filled: int, j: int, value: np.float32) -> int:
    """Insert (j, value) into a list ordered by falling similarity, then rising index; returns the new length."""
    k = index.shape[0]
    if filled == k:
        if value < similarity[k - 1] or (value == similarity[k - 1] and j > index[k - 1]):
            return filled
        place = k - 1
    else:
        place = filled
        filled += 1
    while place > 0 and (value > similarity[place - 1] or (value == similarity[place - 1] and j < index[place - 1])):
        index[place] = index[place - 1]
        similarity[place] = similarity[place - 1]
        place -= 1
    index[place] = j
    similarity[place] = value
    return filled


@compiled()
def _rank(
    queries: Features, gallery: Features, own: bool, found: Candidates, result: Neighbours, start: int, stop: int
) -> None:
    for i in range(start, stop):
        first = 0
        if own:
            result.ids[i, 0] = i
            result.similarity[i, 0] = 1.0
            first = 1
        best, value, filled = result.ids[i, first:], result.similarity[i, first:], 0
        for c in range(found.held[i]):
            if filled == best.shape[0] and (filled == 0 or found.rough[i, c] + found.error[i] < value[filled - 1]):
                continue
            j = found.ids[i, c]
            filled = insert(best, value, filled, j, cosine(queries, i, gallery, j))


def rank(features: Features, candidates: Candidates, k: int) -> Neighbours:
    """The k best candidates by their exact cosines (`features.cosine`), each row itself first.

    Rows that are not certain get no other neighbour (id EMPTY): the caller searches for them.
    """
    total = len(features.norms)
    result = Neighbours(np.full((total, k), EMPTY, dtype=np.int32), np.zeros((total, k), dtype=np.float32))
    over_rows(lambda start, stop: _rank(features, features, True, candidates, result, start, stop), total)
    return result


@compiled()
def _vouch(index: np.ndarray, rough: np.ndarray, error: np.ndarray, k: int, complete: bool, count: np.ndarray) -> None:
    for i in range(index.shape[0]):
        kept = 0
        for c in range(index.shape[1]):
            if index[i, c] >= 0 and index[i, c] != i:
                index[i, kept] = index[i, c]
                rough[i, kept] = rough[i, c]
                kept += 1
        surely = complete or (kept > k and rough[i, kept - 1] < rough[i, k - 1] - 2 * error[i])
        count[i] = kept if kept >= k and surely else EMPTY


def vouch(index: np.ndarray, rough: np.ndarray, error: np.ndarray, k: int, *, complete: bool) -> Candidates:
    """Lists of a search library as candidates, without the row itself and empty entries, and whether a row is certain.

    A list certainly has the k nearest if its last similarity is below its k-th by more than twice the error, because
    all rows that are not in the list are below the last.

    Args:
        index: (N, C), by falling `rough`; negative if the library found nothing. Changed.
        rough: (N, C) float32. Changed.
        error: (N,) float32, bound on |rough - cosine|.
        k: neighbours wanted beside oneself.
        complete: treat each list of at least k as certain, because it holds all rows or because the search is
            approximate.
    """
    index = np.ascontiguousarray(index, dtype=np.int32)
    count = np.empty(len(index), dtype=np.int32)
    _vouch(index, rough, error, k, complete, count)
    return Candidates(index, rough, count, error)
