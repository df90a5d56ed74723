"""ROC curves of a run's scorings, by fast-reid's definition: positives are pairs of different people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from mgot.analysis.pictures.curves import STYLES
from mgot.analysis.pictures.style import GREY, new_figure, plain, styled


@styled
def draw_roc(stages: Mapping[str, Mapping[str, Any]], *, width: float = 4.2) -> Figure | None:
    """A curve for each stage that was scored with TEST.ROC.ENABLED; None if none was.

    Args:
        stages: name -> what rankings.json holds of its first protocol.
        width: in inches.
    """
    curves = {name: ranking["roc"] for name, ranking in stages.items() if "roc" in ranking}
    if not curves:
        return None
    figure, ((axes,),) = new_figure(1, 1, (width, 0.8 * width))
    for (name, curve), (colour, line, _) in zip(curves.items(), STYLES, strict=False):
        axes.step(curve["fpr"], curve["tpr"], where="post", color=colour, linestyle=line, linewidth=1.2, label=name)
    lowest = min(rate for curve in curves.values() for rate in curve["fpr"] if rate > 0)
    chance = [lowest * (1 / lowest) ** (n / 50) for n in range(51)]
    axes.plot(chance, chance, color=GREY, linestyle=":", linewidth=0.8, label="chance")
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false positive rate: pairs of one person judged different")
    axes.set_ylabel("true positive rate: pairs of two people judged different")
    axes.set_title(next(iter(stages.values())).get("protocol", ""))
    plain(axes)
    axes.legend(loc="best")
    return figure
