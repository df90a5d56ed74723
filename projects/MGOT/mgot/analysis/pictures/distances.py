"""Distances of pairs within and across the modalities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mgot.analysis.diagnostics.record import DISTANCE_EDGES, PAIRS, EpochRecord
from mgot.analysis.pictures.style import RIGHT, WRONG, new_figure, plain, styled

TITLES = {"visible": "within visible", "infrared": "within infrared", "cross": "visible to infrared"}


def overlap(counts: np.ndarray) -> float:
    """Shared area of the two normalised histograms of (2, bins) counts, in [0, 1]; 0 if one is empty."""
    total = counts.sum(axis=1, keepdims=True)
    return float(np.minimum(*(counts / np.maximum(total, 1))).sum()) if total.all() else 0.0


@styled
def draw_distances(records: Sequence[EpochRecord], *, width: float = 7.0) -> Figure | None:
    """A row for each record, a column for each kind of pairs: shares of pairs by 1 - cosine, by identity.

    None if no identity is known.
    """
    if not any(record.distances.any() for record in records):
        return None
    figure, axes = new_figure(len(records), len(PAIRS), (width, 1.9 * len(records) + 0.3), share=True)
    for row, record in zip(axes, records, strict=True):
        for axis, name, counts in zip(row, PAIRS, record.distances, strict=True):
            for one, colour, line, label in (
                (counts[0], RIGHT, "-", "same identity"),
                (counts[1], WRONG, "--", "different"),
            ):
                if one.any():
                    share = one / one.sum()
                    axis.stairs(share, DISTANCE_EDGES, color=colour, alpha=0.2, fill=True)
                    axis.stairs(share, DISTANCE_EDGES, color=colour, linestyle=line, linewidth=1.2, label=label)
            plain(axis)
            axis.set_title(f"epoch {int(record.epoch)}: {TITLES[name]}")
            told = f"overlap {overlap(counts):.0%}" if counts.any() else "no ground truth"
            axis.text(0.97, 0.9, told, transform=axis.transAxes, ha="right")
        row[0].set_ylabel("share of pairs")
    for axis in axes[-1]:
        axis.set_xlabel("1 - cosine")
    axes[0][0].set_xlim(0, _largest(records))
    handles = max((axis.get_legend_handles_labels() for axis in axes[0]), key=lambda pair: len(pair[0]))
    figure.legend(*handles, loc="outside lower center", ncols=2)
    return figure


def _largest(records: Sequence[EpochRecord]) -> float:
    """Where the axis ends: the last bin that any histogram fills, and some margin."""
    filled = [np.flatnonzero(record.distances.sum(axis=(0, 1))) for record in records]
    last = max((int(bins[-1]) for bins in filled if len(bins)), default=len(DISTANCE_EDGES) - 2)
    return float(min(DISTANCE_EDGES[last + 1] + 0.05, DISTANCE_EDGES[-1]))
