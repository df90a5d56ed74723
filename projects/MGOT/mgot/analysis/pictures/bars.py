"""Rows of tables as bars: what a configuration reached over its seeds, beside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mgot.analysis.pictures.style import BLACK, BLUE, GREY, new_figure, plain, styled

ROW, FRAME = 0.27, 0.75  # inches of a bar, and of all that is around the bars of a panel
ROOM = 1.75  # of the longest bar with its whisker: the figures stand beside it


class Bar(NamedTuple):
    """A row.

    Attributes:
        name: at the left.
        mean: the length; None where there is nothing yet.
        deviation: the whisker; None for one seed.
        seeds: what each seed reached, as dots.
        note: behind the figures.
        diagnosis: drawn pale, as what used ground truth is not a result of the method.
    """

    name: str
    mean: float | None
    deviation: float | None = None
    seeds: Sequence[float] = ()
    note: str = ""
    diagnosis: bool = False


@styled
def draw_bars(panels: Mapping[str, Sequence[Bar]], quantity: str, *, width: float = 7.4) -> Figure:
    """A panel for each table: side by side if all have the same rows, otherwise one below the other.

    Args:
        panels: title -> rows, from the top.
        quantity: what the bars measure.
        width: of the figure, in inches.
    """
    names = [[bar.name for bar in bars] for bars in panels.values()]
    beside = all(each == names[0] for each in names)
    rows, columns = (1, len(panels)) if beside else (len(panels), 1)
    heights = [ROW * len(each) + FRAME for each in (names[:1] if beside else names)]
    figure, grid = new_figure(rows, columns, (width, sum(heights)), heights=heights)
    flat = [axes for line in grid for axes in line]
    longest = max((bar.mean + (bar.deviation or 0) for bars in panels.values() for bar in bars if bar.mean), default=1)
    for n, (axes, (title, bars)) in enumerate(zip(flat, panels.items(), strict=True)):
        _draw_panel(axes, bars)
        axes.set(title=title, xlim=(0, ROOM * longest))
        if beside and n > 0:
            axes.tick_params(labelleft=False)
    figure.supxlabel(quantity, fontsize=8)
    return figure


def _draw_panel(axes: Axes, bars: Sequence[Bar]) -> None:
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    plain(axes)
    axes.grid(axis="y", visible=False)
    for y, bar in enumerate(bars):
        if bar.mean is None:
            axes.text(0, y, f"  {bar.note}", va="center", color=GREY)
            continue
        axes.barh(y, bar.mean, 0.7, color=BLUE, alpha=0.35 if bar.diagnosis else 0.75)
        spread, said = bar.deviation or 0.0, f"{bar.mean:.2f}"
        if bar.deviation is not None:
            axes.errorbar(bar.mean, y, xerr=spread, color=BLACK, elinewidth=0.8, capsize=2)
            said += f" ± {bar.deviation:.2f}"
        axes.plot(bar.seeds, [y] * len(bar.seeds), ".", color=BLACK, ms=3)
        axes.text(bar.mean + spread, y, f"  {said}{', ' if bar.note else ''}{bar.note}", va="center", fontsize=6.5)
