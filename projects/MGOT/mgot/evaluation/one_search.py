"""Rank-k, mAP and mINP of one search.

Notation: N_q queries, N_g gallery images, I identities of the gallery.

The place of an image in a ranking is one more than the number of images that are nearer, or equally near and earlier in
the gallery (the order of a stable sort). Only true matches need a place. They are few, so only they are sorted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mgot.compiled import compiled, map_rows
from mgot.errors import UserError
from mgot.evaluation.protocols import DROP_RULES, DropRule

RANKS = (1, 5, 10, 20)
_CHUNK = 1 << 22  # distances that one thread takes at a time


class SearchScores(NamedTuple):
    """Figures of one search, in percent, over its valid queries.

    Attributes:
        rank: (len(RANKS),) share of the valid queries with a true match among the first k images, or among all if there
            are fewer.
        mAP: mean average precision.
        mINP: mean inverse negative penalty.
        n_valid_queries: queries that have a true match; the others are left out of the means.
    """

    rank: np.ndarray
    mAP: float
    mINP: float
    n_valid_queries: int


class _Labels(NamedTuple):
    identities: np.ndarray
    cameras: np.ndarray


def score_search(
    distances: ArrayLike,
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    *,
    drop: str = "none",
    unique_identities: bool = True,
) -> SearchScores:
    """Score one search from its distances.

        AP = mean over a query's true matches k = 1..n of k / place_k,   INP = n / place_n

    and Rank-k asks place_1 <= k. Source: the official evaluation of SYSU-MM01 (CMC, mAP); the inverse negative penalty
    is [field]. Equal distances keep the gallery's order.

    Args:
        distances: (N_q, N_g) numbers, smaller is nearer.
        query_ids: (N_q,) int.
        gallery_ids: (N_g,) int.
        query_cameras: (N_q,) int; every rule but "none" needs them.
        gallery_cameras: (N_g,) int; likewise.
        drop: name in :data:`mgot.evaluation.protocols.DROP_RULES`.
        unique_identities: Rank-k counts identities, each at its first place, instead of images. mAP and mINP always
            count images.

    Raises:
        UserError: shapes that do not fit, distances that are not finite, an unknown rule, or no query with a true
            match.
    """
    found = score_queries(
        distances,
        query_ids,
        gallery_ids,
        query_cameras,
        gallery_cameras,
        drop=drop,
        unique_identities=unique_identities,
    )
    found = found[found[:, 0] > 0]
    if not len(found):
        raise UserError(
            "no query has a true match in the gallery: check the identities and that the lists are complete"
        )
    first, precision, penalty = found.T
    rank = 100.0 * (first <= np.array(RANKS)[:, None]).mean(axis=1)
    return SearchScores(rank, 100.0 * float(precision.mean()), 100.0 * float(penalty.mean()), len(found))


def score_queries(
    distances: ArrayLike,
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    *,
    drop: str = "none",
    unique_identities: bool = True,
) -> np.ndarray:
    """(N_q, 3): first place, AP and INP of each query, the last two in (0, 1]; zeros if it has no true match.

    Arguments and errors are those of :func:`score_search`, except that there may be no query with a true match.
    """
    rule = _checked_rule(drop, query_cameras is None or gallery_cameras is None)
    query, gallery = (
        _checked_labels("query", query_ids, query_cameras),
        _checked_labels("gallery", gallery_ids, gallery_cameras),
    )
    table = _checked_distances(distances, (len(query.identities), len(gallery.identities)))
    names, group = np.unique(gallery.identities, return_inverse=True)
    own = np.where(np.isin(query.identities, names), np.searchsorted(names, query.identities), -1)
    members = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[members], np.arange(len(names) + 1))

    def figures(start: int, stop: int) -> np.ndarray:
        chunk = slice(start, stop)
        hidden = rule(query.identities[chunk, None], query.cameras[chunk, None], *gallery)
        hidden = np.ascontiguousarray(np.broadcast_to(hidden, table[chunk].shape))
        return _figures(table[chunk], hidden, own[chunk], group, members, starts, unique_identities)

    rows = max(1, _CHUNK // max(1, table.shape[1]))
    return np.concatenate([np.empty((0, 3)), *map_rows(figures, len(table), rows)])


def _checked_distances(distances: ArrayLike, expected: tuple[int, int]) -> np.ndarray:
    table = np.asarray(distances)
    if table.shape != expected:
        raise UserError(f"distances have shape {table.shape}, and the labels are of {expected} queries and images")
    if table.dtype not in (np.float32, np.float64):
        table = table.astype(np.float64)
    if not np.isfinite(table).all():
        raise UserError("distances hold NaN or infinity: check the features")
    return np.ascontiguousarray(table)


def _checked_rule(name: str, lacks_cameras: bool) -> DropRule:
    if name not in DROP_RULES:
        raise UserError(f"there is no rule {name!r}: choose from {', '.join(DROP_RULES)}")
    if lacks_cameras and name != "none":
        raise UserError(f"rule {name!r} needs the cameras of queries and gallery")
    return DROP_RULES[name]


def _checked_labels(side: str, ids: ArrayLike, cameras: ArrayLike | None) -> _Labels:
    identities = np.asarray(ids)
    labels = _Labels(identities, np.zeros_like(identities) if cameras is None else np.asarray(cameras))
    if identities.ndim != 1 or labels.cameras.shape != identities.shape:
        raise UserError(f"{side}: identities {identities.shape} and cameras {labels.cameras.shape} must both be (N,)")
    return labels


@compiled()
def _place(row: np.ndarray, g: int) -> int:
    """Place of image ``g`` in the ranking that the distances ``row`` (N_g,) make: 1 is the nearest."""
    distance = row[g]
    ahead = 0
    for d in row[:g]:
        ahead += d <= distance
    for d in row[g + 1 :]:
        ahead += d < distance
    return ahead + 1


@compiled()
def _identity_place(row: np.ndarray, g: int, group: np.ndarray, ahead: np.ndarray, passed: np.ndarray) -> int:
    """Place of image ``g``'s identity among identities, ``g`` being its nearest image.

    Args:
        row: (N_g,) distances.
        g: the image.
        group: (N_g,) each image's identity in 0..I-1.
        ahead: (N_g,) int scratch, the images before ``g``; filled without a branch, which is faster.
        passed: (I,) bool scratch; all False, before and after.
    """
    distance = row[g]
    n = 0
    for j in range(g):
        ahead[n] = j
        n += row[j] <= distance
    for j in range(g + 1, len(row)):
        ahead[n] = j
        n += row[j] < distance
    place = 1
    for j in ahead[:n]:
        place += not passed[group[j]]
        passed[group[j]] = True
    for j in ahead[:n]:
        passed[group[j]] = False
    return place


@compiled()
def _figures(
    distances: np.ndarray,
    hidden: np.ndarray,
    own: np.ndarray,
    group: np.ndarray,
    members: np.ndarray,
    starts: np.ndarray,
    unique: bool,
) -> np.ndarray:
    """First place, average precision and inverse negative penalty of each query; zeros if it has no true match.

    Args:
        distances: (N_q, N_g).
        hidden: (N_q, N_g) bool, what a query does not see.
        own: (N_q,) the query's identity as an index into 0..I-1; -1 if the gallery does not have it.
        group: (N_g,) each image's identity as such an index.
        members: (N_g,) images, brought together by identity.
        starts: (I + 1,) where each identity's images begin in ``members``.
        unique: the first place is among identities instead of images.

    Returns:
        (N_q, 3).
    """
    n_queries, n_gallery = distances.shape
    result = np.zeros((n_queries, 3))
    places = np.empty(n_gallery, np.int64)
    ahead = np.empty(n_gallery, np.int64)
    passed = np.zeros(len(starts), np.bool_)
    row = np.empty(n_gallery, distances.dtype)
    for q in range(n_queries):
        if own[q] < 0:
            continue
        for j in range(n_gallery):
            row[j] = np.inf if hidden[q, j] else distances[q, j]
        n, best = 0, -1
        for m in range(starts[own[q]], starts[own[q] + 1]):
            g = members[m]
            if hidden[q, g]:
                continue
            place = _place(row, g)
            k = n
            while k > 0 and places[k - 1] > place:
                places[k] = places[k - 1]
                k -= 1
            places[k] = place
            best = g if k == 0 else best
            n += 1
        if n == 0:
            continue
        result[q, 0] = _identity_place(row, best, group, ahead, passed) if unique else places[0]
        for k in range(n):
            result[q, 1] += (k + 1) / places[k]
        result[q, 1] /= n
        result[q, 2] = n / places[n - 1]
    return result
