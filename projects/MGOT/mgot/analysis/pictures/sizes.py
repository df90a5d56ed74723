"""Histograms of cluster sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mgot.analysis.diagnostics.record import EpochRecord
from mgot.analysis.pictures.style import INFRARED, VISIBLE, new_figure, plain, styled

BINS = 24


@styled
def draw_sizes(records: Sequence[EpochRecord], *, width: float = 7.0) -> Figure:
    """A row for each record, a column for each modality: how many clusters have how many images."""
    figure, axes = new_figure(len(records), 2, (width, 2.1 * len(records) + 0.2), share=True)
    labels = [y for record in records for y in (record.labels_v, record.labels_r)]
    largest = max((int(np.bincount(y[y >= 0]).max(initial=1)) for y in labels), default=1)
    edges = np.arange(0, largest + 2, max(1, -(-largest // BINS))) + 0.5
    edges = np.append(edges, edges[-1] + 1) if edges[-1] < largest else edges
    for pair, record in zip(axes, records, strict=True):
        for axis, name, y, colour in (
            (pair[0], "visible", record.labels_v, VISIBLE),
            (pair[1], "infrared", record.labels_r, INFRARED),
        ):
            sizes = np.bincount(y[y >= 0])
            axis.hist(sizes, bins=edges.tolist(), color=colour, edgecolor="white", linewidth=0.5)
            plain(axis)
            axis.set_title(f"epoch {int(record.epoch)}: {name}")
            axis.set_xlabel("images in a cluster")
            median = f"median {np.median(sizes):.0f} images\n" if len(sizes) else ""
            told = f"{len(sizes)} clusters\n{median}outliers {np.mean(y < 0):.1%}"
            axis.text(0.97, 0.95, told, transform=axis.transAxes, ha="right", va="top")
        pair[0].set_ylabel("clusters")
    return figure
