"""From features to sparse weights. Their overlap gives the Jaccard distance. The clusterers here share this."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import torch

from mgot.errors import UserError
from mgot.neighbours import Rows, check_features, encode, expand, nearest, nearest_of_each

logger = logging.getLogger(__name__)


class Watch:
    """Wall time by stage, in :attr:`seconds`; a stage starts when the previous one ends."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def stage(self, name: str) -> None:
        """A stage ends here."""
        now = perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def neighbour_weights(
    features: np.ndarray | torch.Tensor,
    k1: int,
    k2: int,
    search: str,
    names: Sequence[str] | None,
    watch: Watch,
    side: np.ndarray | None = None,
) -> Rows:
    """V' of :func:`mgot.clustering.cluster`, (N, N) and sparse, rows summing to 1.

    Args:
        features, k1, k2, search, names, side: as there.
        watch: gets the stages check, search, encode and expand.

    Raises:
        UserError: unusable features (named), or k1 or k2 out of its range.
    """
    _check(k1, k2)
    checked = check_features(features, names)
    total = len(checked.norms)
    watch.stage("check")
    if side is None:
        neighbours = nearest(checked, min(k1, total), search)
    else:
        neighbours = nearest_of_each(checked, side, k1, search)
    used = neighbours.ids.shape[1]
    if used < k1:
        logger.warning("k1 = %d, but there are only %d rows: %d neighbours are used", k1, total, used)
    watch.stage("search")
    weights = encode(checked, neighbours, int(np.around(k1 / 2)) + 1)
    watch.stage("encode")
    weights = expand(weights, neighbours, min(k2, used))
    watch.stage("expand")
    return weights


def _check(k1: int, k2: int) -> None:
    if k1 < 1:
        raise UserError(f"k1 = {k1}: at least 1 neighbour is needed (30 by default)")
    if not 1 <= k2 <= k1:
        raise UserError(f"k2 = {k2}: must lie between 1 and k1 = {k1}")
