"""Average query expansion of a search. It is transductive, so its figures are in separate rows.

Notation: N_q queries, N_g gallery images, N = N_q + N_g, D feature dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mgot.errors import UserError

_ROWS = 256  # whose neighbours are gathered at a time


class Expansion(NamedTuple):
    """Settings of query expansion, with fast-reid's defaults.

    Attributes:
        times: how often all features are expanded.
        k: nearest images that are averaged, the image itself counted.
        alpha: power of the cosine, which is the weight of each.
    """

    times: int = 1
    k: int = 5
    alpha: float = 3.0


DEFAULTS = Expansion()


def expanded_features(
    query: np.ndarray, gallery: np.ndarray, setting: Expansion = DEFAULTS
) -> tuple[np.ndarray, np.ndarray]:
    """Features of queries and gallery, each replaced by a weighted mean of its nearest ones among both.

        x'_i = 1/k  sum_{j in the k nearest of x_i} cos(x_i, x_j)^alpha x_j

    Source: fast-reid's evaluation/query_expansion.py, after Chum et al., Total Recall, ICCV 2007 [field]. Neighbours
    are found by cosine. The features are averaged as they are, not normalised. If alpha is not a whole number, a
    negative cosine has no such power and gets the weight 0 [ours].

    Args:
        query: (N_q, D) floats.
        gallery: (N_g, D) floats; the search's own.
        setting: times, k, alpha; if k is larger than N, all are averaged.

    Returns:
        (N_q, D) and (N_g, D) float32, not normalised.

    Raises:
        UserError: a setting out of its range.
    """
    times, k, alpha = setting
    if times < 1 or k < 1 or not alpha >= 0:
        raise UserError(f"query expansion needs times >= 1, k >= 1 and alpha >= 0, not {(times, k, alpha)}")
    rows = np.concatenate((query, gallery)).astype(np.float32)
    for _ in range(times):
        rows = _expanded(rows, min(k, len(rows)), alpha)
    return rows[: len(query)], rows[len(query) :]


def _expanded(rows: np.ndarray, k: int, alpha: float) -> np.ndarray:
    unit = normalised(rows)
    result = np.empty_like(rows)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        cosines = unit[part] @ unit.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        weights = _power(np.take_along_axis(cosines, nearest, axis=1), alpha)
        result[part] = np.einsum("nk,nkd->nd", weights, rows[nearest]) / k
    return result


def _power(cosines: np.ndarray, alpha: float) -> np.ndarray:
    return cosines ** int(alpha) if float(alpha).is_integer() else np.maximum(cosines, 0.0) ** np.float32(alpha)


def normalised(rows: np.ndarray) -> np.ndarray:
    """(N, D) rows of unit length; a row of zeros stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
