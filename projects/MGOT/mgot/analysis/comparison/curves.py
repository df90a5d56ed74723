"""Curves of several runs in one figure, legible in print and without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgot.analysis.diagnostics.run import Run
from mgot.errors import UserError

# Okabe and Ito's colours, for colour-blind readers too. Their yellow is too pale for a line on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")  # 4 and 7 have no common factor: 28 runs look different
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
PANELS = {
    "truth/matching_accuracy": "matching accuracy",
    "matching/one_to_one": "one-to-one matches",
    "truth/visible_ari": "ARI, visible clusters",
    "truth/infrared_ari": "ARI, infrared clusters",
    "total_loss": "total loss",
}
COLUMNS = 3
PANEL_SIZE = (3.6, 2.7)  # inches


def panels(runs: Sequence[Run]) -> dict[str, str]:
    """Measures, and their titles, that any of the runs recorded; Rank-1 of the first protocol stands first."""
    scored = [key for run in runs for line in run.metrics for key in line if key.endswith("/rank1")]
    rank = {scored[0]: f"Rank-1 in %, {scored[0].removesuffix('/rank1')}"} if scored else {}
    return {key: title for key, title in {**rank, **PANELS}.items() if any(run.curve(key)[0] for run in runs)}


def draw_curves(runs: Sequence[Run]) -> Any:
    """A matplotlib figure with a panel for each measure, or None if no run recorded any."""
    from matplotlib.figure import Figure

    chosen = panels(runs)
    if not chosen:
        return None
    columns = min(COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    legend_rows = math.ceil(len(runs) / columns)
    size = (columns * PANEL_SIZE[0], rows * PANEL_SIZE[1] + 0.3 + 0.22 * legend_rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (key, title) in zip(axes, chosen.items(), strict=False):
        handles = [_draw(axis, run.curve(key), i) for i, run in enumerate(runs)]
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(
            "epochs done" if all(run.config for run in runs) else "epochs done (steps, if there is no config)"
        )
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(chosen) :]:
        axis.set_visible(False)
    figure.legend(handles, [_legend_text(run) for run in runs], loc="outside lower center", ncols=columns)
    return figure


def _draw(axis: Any, curve: tuple[list[float], list[float]], number: int) -> Any:
    return axis.plot(
        *curve,
        color=COLOURS[number % len(COLOURS)],
        linestyle=LINES[number % len(LINES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        linewidth=1.6,
    )[0]


def _legend_text(run: Run) -> str:
    """The label, and the status of an unfinished run. matplotlib reads $ as mathematics and hides a first _."""
    status = run.status
    text = run.label if status == "finished" else f"{run.label} ({status})"
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")


def write_curves(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write ``curves.png`` and ``curves.svg``; the files written; none if there is nothing to draw.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        figure = draw_curves(runs)
    except ImportError:
        raise UserError("the curves need matplotlib: pip install matplotlib, or add --no-curves") from None
    if figure is None:
        return []
    paths = [folder / "curves.png", folder / "curves.svg"]
    for path in paths:
        figure.savefig(path, dpi=200)
    return paths
