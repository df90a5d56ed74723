"""Candidates for exact search on the CPU: half of the similarity matrix, tile by tile, in low precision.

Each tile of products is used for its rows and its columns, so the cost is N^2 D flops, not 2 N^2 D. If bfloat16
products are faster than float32 ones, they are used. Their error is bounded row by row, and all rows that may be among
the k nearest within this bound are kept for the exact ranking. No N x N matrix is stored.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from threading import Lock
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch

from mgot.compiled import compiled, map_rows, one_thread_each, over_rows
from mgot.neighbours.exact import rounding_error
from mgot.neighbours.features import Features, dot
from mgot.neighbours.ranking import EMPTY, Candidates
from mgot.progress import progress

TILE = 1024
CAPACITY = 256
SMALL = 4096
LANES = 64
GROUP = 16
ROUNDED = 2.0**-22  # bound on what rounding takes from f / |f| - mean: two steps on vectors no longer than 2


class Centred(NamedTuple):
    """Unit features minus their mean, which makes the errors of low precision smallest.

    cos(f_i, f_j) = 1 + x_i . x_j - a_i - a_j,   x = f / |f| - mean,  a = |x|^2 / 2

    Attributes:
        rows: (N, D) x, in the type of the products.
        half_squares: (N,) float32, a.
        error: (N,) float32, bound on the error of x_i . x_j - a_i - a_j over all j.
    """

    rows: torch.Tensor
    half_squares: np.ndarray
    error: np.ndarray


class Lists(NamedTuple):
    """What is kept of each row during the tiles.

    Attributes:
        ids: (N, C) int32, candidates.
        score: (N, C) float32, x_i . x_j - a_j.
        held: (N,) int32, number of candidates; EMPTY if there were too many.
        bar: (N,) float32, the score that a new candidate must reach.
        margin: (N,) float32, twice the error.
    """

    ids: np.ndarray
    score: np.ndarray
    held: np.ndarray
    bar: np.ndarray
    margin: np.ndarray


@compiled()
def _sum(features: Features, start: int, stop: int) -> np.ndarray:
    total = np.zeros(features.rows.shape[1], dtype=np.float64)
    for i in range(start, stop):
        row, inverse = features.rows[i], 1.0 / features.norms[i]
        for d in range(row.shape[0]):
            total[d] += row[d] * inverse
    return total


@compiled()
def _centre(
    features: Features,
    mean: np.ndarray,
    low: bool,
    out: np.ndarray,
    length: np.ndarray,
    lost: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Bits of x, in bfloat16 rounded to nearest even if `low`; its length, and the length of the rounding error."""
    x = np.empty(mean.shape[0], dtype=np.float32)
    rounded = np.empty(mean.shape[0], dtype=np.float32)
    bits, rounded_bits = x.view(np.uint32), rounded.view(np.uint32)
    for i in range(start, stop):
        row, inverse = features.rows[i], 1.0 / features.norms[i]
        for d in range(x.shape[0]):
            x[d] = np.float32(row[d] * inverse) - mean[d]
        length[i], lost[i] = np.sqrt(dot(x, x)), 0.0
        if low:
            for d in range(x.shape[0]):
                upper = (bits[d] + np.uint32(0x7FFF) + ((bits[d] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
                out[i, d] = upper
                rounded_bits[d] = upper << np.uint32(16)
            for d in range(x.shape[0]):
                rounded[d] -= x[d]
            lost[i] = np.sqrt(dot(rounded, rounded))
        else:
            for d in range(x.shape[0]):
                out[i, d] = bits[d]


def centre(features: Features, dtype: torch.dtype) -> Centred:
    """Centre and round the features, and bound the error of their products.

    With y the rounded x and e = |y - x|:  |y_i . y_j - x_i . x_j| <= e_i |x_j| + |y_i| e_j, by Cauchy and Schwarz.
    Added to this are the rounding of the sum and that of a bfloat16 result, 2^-9 of it.
    """
    total, dimension = features.rows.shape
    mean = sum(map_rows(partial(_sum, features), total)) / total
    low = dtype == torch.bfloat16
    bits = np.empty((total, dimension), dtype=np.uint16 if low else np.uint32)
    length, lost = np.empty(total), np.empty(total)
    over_rows(partial(_centre, features, mean.astype(np.float32), low, bits, length, lost), total)
    lost += ROUNDED
    reach = length + lost
    relative = rounding_error(dimension) + (2.0**-9 if low else 0.0)
    error = lost * length.max() + reach * lost.max() + relative * reach * reach.max() + 4 * ROUNDED
    rows = torch.from_numpy(bits).view(dtype)
    return Centred(rows, (length**2 / 2).astype(np.float32), error.astype(np.float32))


@compiled()
def _tighten(i: int, lists: Lists, k: int) -> None:
    """Raise the bar of one row to that of its k-th best, and drop the candidates below it."""
    ids, score, held = lists.ids[i], lists.score[i], lists.held[i]
    if held < k:
        return
    best = np.empty(k, dtype=np.float32)
    filled = 0
    for c in range(held):
        if filled < k:
            place = filled
            filled += 1
        elif score[c] > best[k - 1]:
            place = k - 1
        else:
            continue
        while place > 0 and best[place - 1] < score[c]:
            best[place] = best[place - 1]
            place -= 1
        best[place] = score[c]
    bar, kept = np.float32(best[k - 1] - lists.margin[i]), 0
    for c in range(held):
        if score[c] >= bar:
            ids[kept], score[kept] = ids[c], score[c]
            kept += 1
    lists.held[i], lists.bar[i] = kept, bar


@compiled()
def _sort(ids: np.ndarray, score: np.ndarray) -> None:
    """Sort by falling score: the exact ranking then soon has k good ones and can skip most of the others."""
    for c in range(1, len(ids)):
        j, value, place = ids[c], score[c], c
        while place > 0 and score[place - 1] < value:
            ids[place], score[place] = ids[place - 1], score[place - 1]
            place -= 1
        ids[place], score[place] = j, value


@compiled()
def _add(i: int, j: int, score: float, lists: Lists, k: int) -> None:
    room = lists.ids.shape[1]
    lists.ids[i, lists.held[i]] = j
    lists.score[i, lists.held[i]] = score
    lists.held[i] += 1
    if lists.held[i] == room:
        _tighten(i, lists, k)
        if lists.held[i] > room - room // 4:
            lists.held[i], lists.bar[i] = EMPTY, np.inf


@compiled()
def _take_rows(tile: np.ndarray, half_squares: np.ndarray, top: int, left: int, lists: Lists, k: int) -> None:
    for r in range(tile.shape[0]):
        i = top + r
        for low in range(0, tile.shape[1], LANES):
            part, shift = tile[r, low : low + LANES], half_squares[left + low : left + low + LANES]
            bar, hit = lists.bar[i], np.int32(0)
            for c in range(part.shape[0]):
                hit |= np.int32(part[c] - shift[c] >= bar)
            if hit:
                for c in range(part.shape[0]):
                    score = part[c] - shift[c]
                    if score >= lists.bar[i] and left + low + c != i:
                        _add(i, left + low + c, score, lists, k)


@compiled()
def _take_columns(tile: np.ndarray, half_squares: np.ndarray, top: int, left: int, lists: Lists, k: int) -> None:
    for r in range(tile.shape[0]):
        shift = half_squares[top + r]
        for low in range(0, tile.shape[1], LANES):
            part, bar, hit = tile[r, low : low + LANES], lists.bar[left + low : left + low + LANES], np.int32(0)
            for c in range(part.shape[0]):
                hit |= np.int32(part[c] - shift >= bar[c])
            if hit:
                for c in range(part.shape[0]):
                    score = part[c] - shift
                    if score >= bar[c]:
                        _add(left + low + c, top + r, score, lists, k)


@compiled()
def _finish(half_squares: np.ndarray, lists: Lists, k: int, start: int, stop: int) -> None:
    for i in range(start, stop):
        if lists.held[i] > 0:
            _tighten(i, lists, k)
            _sort(lists.ids[i, : lists.held[i]], lists.score[i, : lists.held[i]])
            for c in range(lists.held[i]):
                lists.score[i, c] = np.float32(1.0) + lists.score[i, c] - half_squares[i]


def fastest_type(total: int, dimension: int) -> torch.dtype:
    """bfloat16 if its products are faster here than float32's. For a small set this is not measured."""
    if total < SMALL:
        return torch.float32
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones((TILE, dimension), dtype=dtype)
        _ = a[:LANES] @ a.T
        start = perf_counter()
        _ = a @ a.T
        seconds[dtype] = perf_counter() - start
    return min(seconds, key=lambda dtype: seconds[dtype])


def _first_bars(tile: torch.Tensor, centred: Centred, top: int, lists: Lists, k: int) -> None:
    """First bars for rows: the k-th best of the best of each few columns is at most the k-th best of all."""
    own = slice(top, top + len(tile))
    groups = tile.shape[1] // GROUP
    if groups < k:
        return
    score = tile - torch.from_numpy(centred.half_squares[own])
    score.fill_diagonal_(-torch.inf)
    best = score[:, : groups * GROUP].view(len(tile), groups, GROUP).amax(dim=2)
    bar = best.topk(k, dim=1).values[:, -1].numpy() - lists.margin[own]
    lists.bar[own] = np.maximum(bar, lists.bar[own])


def candidates(features: Features, k: int, dtype: torch.dtype | None = None) -> Candidates:
    """Rows that certainly contain the k nearest of each row, without the row itself.

    Args:
        features: (N, D).
        k: neighbours wanted beside oneself, at least 1, at most N - 1.
        dtype: torch.bfloat16 or torch.float32; None takes the faster of the two on this machine.

    Returns:
        By falling rough similarity, at most CAPACITY for each row. If more than three quarters of CAPACITY are within
        the error of a row's k-th, its ``held`` is EMPTY, and the caller searches it in another way. Memory: N (2 D + 8
        CAPACITY) bytes in bfloat16, and a few tiles.
    """
    total = len(features.norms)
    centred = centre(features, dtype or fastest_type(total, features.rows.shape[1]))
    capacity = max(CAPACITY, 4 * k)
    lists = Lists(
        ids=np.empty((total, capacity), dtype=np.int32),
        score=np.empty((total, capacity), dtype=np.float32),
        held=np.zeros(total, dtype=np.int32),
        bar=np.full(total, -np.inf, dtype=np.float32),
        margin=2 * centred.error,
    )
    tops = range(0, total, TILE)
    locks = {top: Lock() for top in tops}

    def take(place: tuple[int, int]) -> None:
        top, left = place
        tile = (centred.rows[top : top + TILE] @ centred.rows[left : left + TILE].T).float()
        with locks[top]:
            if top == left:
                _first_bars(tile, centred, top, lists, k)
            _take_rows(tile.numpy(), centred.half_squares, top, left, lists, k)
        if left != top:
            with locks[left]:
                _take_columns(tile.numpy(), centred.half_squares, top, left, lists, k)

    # The tiles of the diagonal come first: they give every row a bar before the others are looked at.
    places = [(top, top) for top in tops] + [(top, left) for top in tops for left in tops if left > top]
    with one_thread_each() as pool:
        deque(progress(pool.map(take, places), "neighbours", len(places)), maxlen=0)
    over_rows(partial(_finish, centred.half_squares, lists, k), total)
    return Candidates(lists.ids, lists.score, lists.held, centred.error)
