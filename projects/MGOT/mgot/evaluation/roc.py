"""The ROC curve of a search, by fast-reid's definition.

fast-reid's positives are pairs of *different* people, recognised by a large distance. The true positive rate is the
share of these pairs at a distance or farther. The false positive rate is the share of pairs of one person at that
distance or farther.

Notation: N_q queries, N_g gallery images, P points of a curve.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mgot.errors import UserError
from mgot.evaluation.protocols import DROP_RULES

RATES = (1e-4, 1e-3, 1e-2)
ROC_FIGURES = {f"TPR@FPR={rate:.0e}": rate for rate in RATES}
"""fast-reid's names of the figures of a curve -> false positive rate."""


class Curve(NamedTuple):
    """(P,) false and true positive rates in [0, 1], both rising."""

    fpr: np.ndarray
    tpr: np.ndarray


def roc_curve(
    distances: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
    *,
    drop: str = "none",
) -> Curve:
    """The curve over all pairs of a query and a gallery image that it sees, including queries without a true match.

    Source: fast-reid's evaluation/roc.py, but with a protocol's rule of what a query does not see.

    Args:
        distances: (N_q, N_g), smaller is nearer.
        query_ids, query_cameras: (N_q,) int.
        gallery_ids, gallery_cameras: (N_g,) int.
        drop: name in :data:`mgot.evaluation.protocols.DROP_RULES`.

    Raises:
        UserError: there are no pairs of one person, or none of two.
    """
    labels = query_ids[:, None], query_cameras[:, None], gallery_ids, gallery_cameras
    seen = ~np.broadcast_to(DROP_RULES[drop](*labels), distances.shape)
    different = (query_ids[:, None] != gallery_ids)[seen]
    if different.all() or not different.any():
        raise UserError("TEST.ROC: a curve needs pairs of one person and pairs of two: check the identities")
    from sklearn.metrics import roc_curve as rates  # here: it takes a second to import

    fpr, tpr, _ = rates(different, distances[seen])
    return Curve(fpr, tpr)


def roc_figures(curve: Curve) -> dict[str, float]:
    """The true positive rates, in percent, where the curve's false positive rate is nearest to each of RATES.

    As in fast-reid, the first of several such points is taken. If the nearest rate is 0, that would be the curve's
    corner for any features, so the highest of these points is taken [ours].
    """
    return {name: 100.0 * _tpr_at(curve, rate) for name, rate in ROC_FIGURES.items()}


def _tpr_at(curve: Curve, rate: float) -> float:
    nearest = int(np.argmin(np.abs(curve.fpr - rate)))
    at_zero = curve.fpr[nearest] == 0
    return float(curve.tpr[curve.fpr == 0].max() if at_zero else curve.tpr[nearest])


def thinned(curve: Curve, points: int = 200) -> Curve:
    """At most that many points of a curve, evenly spread in the logarithm of the false positive rate; the ends stay."""
    positive = curve.fpr[curve.fpr > 0]
    wanted = np.geomspace(positive[0], positive[-1], points - 1)
    kept = np.unique([0, *(np.searchsorted(curve.fpr, wanted, side="right") - 1)])
    return Curve(curve.fpr[kept], curve.tpr[kept])
