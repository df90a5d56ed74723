"""What some queries found: the query, then its nearest gallery images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mgot.analysis.pictures.style import GREEN, WRONG, new_figure, styled
from mgot.data.images import read_image_checked
from mgot.errors import UserError

ROWS = 4


@styled
def draw_rankings(
    queries: Sequence[dict[str, Any]], root: Path, *, rows: int = ROWS, width: float = 7.0
) -> Figure | None:
    """A row for each of the first queries of rankings.json, with its average precision; None if there is none.

    A full green frame and a tick: the query's identity; an orange one and a cross: another one; an empty frame: an
    image that cannot be read.
    """
    shown = [query for query in queries[:rows] if query["found"]]
    if not shown:
        return None
    columns = 1 + max(len(query["found"]) for query in shown)
    height = 2.25 * width / columns + 0.12
    figure, axes = new_figure(len(shown), columns, (width, height * len(shown)))
    for row, query in zip(axes, shown, strict=True):
        _draw_image(row[0], root / query["path"])
        row[0].set_title(f"AP {query['ap']:.1f} %" if "ap" in query else "query", fontsize=7)
        for axis in row[1:]:
            axis.set_visible(False)
        for axis, found in zip(row[1:], query["found"], strict=False):
            axis.set_visible(True)
            _draw_image(axis, root / found["path"])
            colour = GREEN if found["right"] else WRONG
            for spine in axis.spines.values():
                spine.set(color=colour, linewidth=2.2)
            axis.set_title(f"{'✓' if found['right'] else '✗'} {found['distance']:.2f}", color=colour, fontsize=7)
    return figure


def _draw_image(axes: Axes, path: Path) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    image: Image.Image | None = None
    try:
        image = read_image_checked(path)
    except UserError:
        axes.set_facecolor("#EEEEEE")
    axes.set_box_aspect(2.0)
    if image is not None:
        axes.imshow(image, aspect="auto")
