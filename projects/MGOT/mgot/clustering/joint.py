"""k-reciprocal neighbours across two sets, such as the visible and the infrared images."""

from __future__ import annotations

import numpy as np
import torch

from mgot.clustering.encoding import reciprocal_neighbours
from mgot.clustering.exhaustive import search_rows
from mgot.clustering.features import Features, check_features
from mgot.clustering.ranking import Neighbours
from mgot.clustering.rows import Rows
from mgot.clustering.search import nearest
from mgot.errors import UserError

Array = np.ndarray | torch.Tensor


def joint_neighbours(visible: Array, infrared: Array, k: int, *, search: str = "auto") -> Rows:
    """k-reciprocal neighbours in the union of both sets.

        R(i, k) = {j in N(i, k): i in N(j, k)},   N(i, k) the k nearest of i in the union, i itself among them

    Source: [ours], after the k-reciprocal sets of docs/method.md section 3. Where the modalities lie apart, all k
    neighbours may be of one's own: `cross_neighbours` then finds partners and this does not.

    Args:
        visible: (N_v, D), of any length but zero.
        infrared: (N_r, D).
        k: at least 1; more than N_v + N_r counts as that.
        search: see `search.nearest`.

    Returns:
        (N_v + N_r, N_v + N_r) cosines, visible rows first; each row holds itself, nearest first.

    Raises:
        UserError: unusable features, or k below 1.
    """
    first, second = _checked(visible, infrared)
    both = Features(np.concatenate([first.rows, second.rows]), np.concatenate([first.norms, second.norms]))
    neighbours = nearest(both, _at_most(k, len(both.norms)), search)
    return _kept(neighbours, reciprocal_neighbours(neighbours.ids))


def cross_neighbours(visible: Array, infrared: Array, k: int) -> Rows:
    """k-reciprocal neighbours of each visible row among the infrared ones.

        R(i, k) = {j in N_r(i, k): i in N_v(j, k)},   N_r(i, k) the k nearest infrared rows of i, N_v those of j

    Source: [ours]. The nearest of the other set alone are asked for, so the gap between the modalities does not matter.

    Args:
        visible: (N_v, D), of any length but zero.
        infrared: (N_r, D).
        k: at least 1; more than a set has counts as all of it.

    Returns:
        (N_v, N_r) cosines, nearest first; rows may be empty. With the sets exchanged, the same pairs the other way.

    Raises:
        UserError: unusable features, or k below 1.
    """
    ours, theirs = _checked(visible, infrared)
    there = search_rows(ours, theirs, np.arange(len(ours.norms)), _at_most(k, len(theirs.norms)))
    back = search_rows(theirs, ours, np.arange(len(theirs.norms)), _at_most(k, len(ours.norms)))
    return _kept(there, reciprocal_neighbours(there.ids, back.ids))


def _checked(visible: Array, infrared: Array) -> tuple[Features, Features]:
    first, second = check_features(visible), check_features(infrared)
    if first.rows.shape[1] != second.rows.shape[1]:
        raise UserError(
            f"features of {first.rows.shape[1]} and {second.rows.shape[1]} dimensions: both sets need the same"
        )
    return first, second


def _at_most(k: int, size: int) -> int:
    if k < 1:
        raise UserError(f"k = {k}: at least 1 neighbour is needed")
    return min(k, size)


def _kept(neighbours: Neighbours, kept: np.ndarray) -> Rows:
    start = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept.sum(axis=1))])
    return Rows(start, neighbours.ids[kept], neighbours.similarity[kept])
