"""Who is taken how often: the degraded solution of the paper's Fig. 3 beside the one under the uniform prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mgot.analysis.diagnostics.record import EpochRecord
from mgot.analysis.pictures.plan import kept_matches
from mgot.analysis.pictures.style import RIGHT, UNKNOWN, WRONG, new_figure, plain, styled
from mgot.matching import OTPA, UNMATCHED, Prototypes


class Load(NamedTuple):
    """How often each demand cluster was taken, most taken first.

    Attributes:
        right, wrong, unknown: (K,) supply clusters that took it, by whether they have its majority identity.
        rescued: demand clusters that no supply cluster took and that the opposite transport matched.
    """

    right: np.ndarray
    wrong: np.ndarray
    unknown: np.ndarray
    rescued: int

    @property
    def total(self) -> np.ndarray:
        """(K,) all that took it."""
        return self.right + self.wrong + self.unknown


def measure_load(record: EpochRecord, *, uniform_prior: bool, sharpness: float) -> Load:
    """Match the record's prototypes again, from their similarity, with or without the uniform prior.

    Args:
        record: of the epoch.
        uniform_prior: False takes the argmax of P.
        sharpness: lambda.
    """
    similarity = record.similarity.astype(np.float64)
    matcher = OTPA(sharpness=sharpness, uniform_prior=uniform_prior, supply=str(record.supply))
    # S = S I: a matcher takes prototypes, and these have the similarity that was kept
    matching = matcher(Prototypes(similarity, np.eye(similarity.shape[1])))
    kinds, forward = kept_matches(record).kinds, matching.v2r
    if matching.supply != "visible":
        kinds, forward = kinds.T, matching.r2v
    counts = np.zeros((kinds.shape[1], 3), dtype=np.int64)
    supply = np.flatnonzero(forward != UNMATCHED)
    np.add.at(counts, (forward[supply], kinds[supply, forward[supply]]), 1)
    counts = counts[np.argsort(-counts.sum(axis=1), kind="stable")]
    return Load(counts[:, 1], counts[:, 0], counts[:, 2], len(matching.unassigned))


@styled
def draw_degraded(records: Sequence[EpochRecord], sharpness: float, *, width: float = 7.0) -> Figure:
    """A row for each record: load of the demand clusters by plain argmax on the left, under the prior on the right."""
    figure, axes = new_figure(len(records), 2, (width, 2.3 * len(records) + 0.2), share=True)
    for pair, record in zip(axes, records, strict=True):
        for axis, prior in zip(pair, (False, True), strict=True):
            _draw_load(axis, measure_load(record, uniform_prior=prior, sharpness=sharpness))
            name = "uniform prior" if prior else "plain argmax of P"
            axis.set_title(f"epoch {int(record.epoch)}: {name}")
        demand = "infrared" if str(record.supply) == "visible" else "visible"
        pair[0].set_ylabel(f"{record.supply} clusters that took it")
        for axis in pair:
            axis.set_xlabel(f"{demand} clusters, most taken first")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _draw_load(axes: Axes, load: Load) -> None:
    x, base = np.arange(1, len(load.total) + 1), np.zeros(len(load.total), dtype=np.int64)
    for counts, colour, label, hatch in (
        (load.right, RIGHT, "same identity", ""),
        (load.wrong, WRONG, "different identities", "////"),
        (load.unknown, UNKNOWN, "identity unknown", ""),
    ):
        if counts.any():
            axes.bar(x, counts, 1.0, base, color=colour, label=label, hatch=hatch, edgecolor="white", linewidth=0)
            base = base + counts
    plain(axes)
    if not len(x):
        return
    axes.axhline(base.sum() / len(base), color="black", linewidth=0.8, linestyle="--", label="even load")
    empty, top = int((base == 0).sum()), np.sort(base)[-3:].sum() / max(base.sum(), 1)
    told = f"never taken: {empty} of {len(base)}\nthe 3 most taken hold {top:.0%}"
    axes.text(0.97, 0.95, told, transform=axes.transAxes, ha="right", va="top")
