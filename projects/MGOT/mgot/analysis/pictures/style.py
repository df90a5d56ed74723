"""What the pictures share: colours for colour-blind readers too, type that can be printed, PNG and SVG files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mgot.files import write_atomically

# Okabe and Ito's palette; pale yellow is left out, which white paper swallows.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#999999"
RIGHT, WRONG, UNKNOWN = BLUE, VERMILLION, "#444444"
VISIBLE, INFRARED = ORANGE, BLUE
# A dozen: the palette, then darker ones that differ in lightness; pictures that use them name each by a number too.
DOZEN = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK, "#882255", "#44AA99", "#332288", "#999933", "#AA4499")

PNG_DOTS = 200
A = ParamSpec("A")
F = TypeVar("F")
_TYPE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "mgot",  # the same picture gives the same file
}


def styled(draw: Callable[A, F]) -> Callable[A, F]:
    """Decorator: the function draws with the pictures' type."""

    @wraps(draw)
    def inside(*args: A.args, **kwargs: A.kwargs) -> F:
        with rc_context(_TYPE):
            return draw(*args, **kwargs)

    return inside


def new_figure(
    rows: int,
    columns: int,
    size: tuple[float, float],
    *,
    share: bool = False,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of (width, height) inches with rows x columns axes.

    ``share`` gives all one x and one y range; ``heights`` are those of the rows, relative to each other.
    """
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share, height_ratios=heights)
    return figure, [list(row) for row in axes]


def plain(axes: Axes) -> None:
    """Remove the upper and right side of the frame, and draw a pale grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)


def shade(colour: str) -> LinearSegmentedColormap:
    """White to a colour."""
    return LinearSegmentedColormap.from_list(colour, ["#FFFFFF", colour])


def blend(values: np.ndarray, kinds: np.ndarray, colours: Sequence[str]) -> np.ndarray:
    """(H, W, 3) in [0, 1]: each cell in the colour of its kind, as strong as its value in [0, 1].

    Args:
        values: (H, W), clipped to [0, 1].
        kinds: (H, W) indices into ``colours``.
        colours: hexadecimal colours.
    """
    full = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    strength = np.clip(values, 0.0, 1.0)[..., None]
    return 1.0 - strength * (1.0 - full[kinds])


def encode(figure: Figure, kind: str, dots: int = PNG_DOTS) -> bytes:
    """The figure as a "png" with this many dots per inch, or as an "svg" that keeps text as text."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    with rc_context(_TYPE):
        figure.savefig(buffer, format=kind, dpi=dots, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name.png`` and ``name.svg``; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        write_atomically(path, encode(figure, path.suffix[1:]))
    return paths
