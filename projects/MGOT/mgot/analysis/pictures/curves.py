"""Curves of a run: what docs/method.md's section 8 measures, by epoch."""

from __future__ import annotations

from itertools import cycle
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mgot.analysis.diagnostics.run import Run
from mgot.analysis.pictures.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, new_figure, plain, styled


class Panel(NamedTuple):
    """One panel: title, and the measures of metrics.json with their names in the legend."""

    title: str
    measures: dict[str, str]


PANELS = (
    Panel(
        "losses",
        {
            "loss_vcl": "VCL",
            "loss_icl": "ICL",
            "loss_ccl": "CCL",
            "loss_mcl": "MCL",
            "loss_cpal": "CPAL",
            "loss_adv": "adversary",
        },
    ),
    Panel(
        "fitness of the matching",
        {
            "truth/matching_accuracy": "accuracy (truth)",
            "matching/one_to_one": "one to one",
            "matching/agreement": "agreement",
            "matching/confidence": "confidence",
        },
    ),
    Panel("load of the matching", {"matching/load_empty": "taken by nobody", "matching/load_top3": "3 most taken"}),
    Panel(
        "fairness",
        {
            "fairness/v_v": "visible | own",
            "fairness/r_r": "infrared | own",
            "fairness/v_r": "visible | infrared",
            "fairness/r_v": "infrared | visible",
            "fairness/v_c": "visible | cross",
            "fairness/r_c": "infrared | cross",
        },
    ),
    Panel(
        "sharpness: H(y|x) in nats",
        {
            "sharpness/v_v": "visible | own",
            "sharpness/r_r": "infrared | own",
            "sharpness/v_r": "visible | infrared",
            "sharpness/r_v": "infrared | visible",
            "sharpness/v_c": "visible | cross",
            "sharpness/r_c": "infrared | cross",
        },
    ),
    Panel("clusters", {"visible/clusters": "visible", "infrared/clusters": "infrared"}),
    Panel("outliers, share of images", {"visible/outliers": "visible", "infrared/outliers": "infrared"}),
    Panel(
        "clusters against the truth",
        {
            "truth/visible_ari": "ARI visible",
            "truth/infrared_ari": "ARI infrared",
            "truth/visible_nmi": "NMI visible",
            "truth/infrared_nmi": "NMI infrared",
        },
    ),
    Panel("learning rate", {"lr": "learning rate"}),
    Panel(
        "seconds of an epoch",
        {
            "seconds/train": "training",
            "seconds/extract": "extraction",
            "seconds/cluster_visible": "clustering visible",
            "seconds/cluster_infrared": "clustering infrared",
            "seconds/match": "matching",
            "seconds/record": "recording",
        },
    ),
    Panel("training images per second", {"images_per_second": "images/s"}),
)
COLUMNS = 3
STYLES = ((BLUE, "-", "o"), (VERMILLION, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D"), (ORANGE, "-", "v"),
          (SKY, "--", "P"), (BLACK, ":", "x"))  # fmt: skip


def score_panel(run: Run) -> Panel | None:
    """Rank-1, mAP and mINP of the first protocol that was scored; None if none was."""
    scored = [name for line in run.metrics for name in line if name.endswith("/rank1")]
    if not scored:
        return None
    protocol = scored[0].removesuffix("/rank1")
    names = {"rank1": "Rank-1", "mAP": "mAP", "mINP": "mINP"}
    return Panel(f"{protocol}, in percent", {f"{protocol}/{figure}": name for figure, name in names.items()})


def with_all_losses(panel: Panel, run: Run) -> Panel:
    """The panel of losses: ours, and others that the run has, by their registered names."""
    logged = (name for line in run.metrics for name in line if name.startswith("loss_"))
    others = {name: name.removeprefix("loss_") for name in logged if name not in panel.measures}
    return Panel(panel.title, {**panel.measures, **others})


@styled
def draw_curves(run: Run, *, width: float = 7.4) -> Figure | None:
    """A panel for each group of measures of which the run has any; None if it has none."""
    first = score_panel(run)
    wanted = [*([first] if first else []), with_all_losses(PANELS[0], run), *PANELS[1:]]
    panels = [panel for panel in wanted if any(run.curve(name)[0] for name in panel.measures)]
    if not panels:
        return None
    rows = -(-len(panels) // COLUMNS)
    figure, axes = new_figure(rows, COLUMNS, (width, 2.3 * rows))
    flat = [axis for row in axes for axis in row]
    for axis, panel in zip(flat, panels, strict=False):
        _draw_panel(axis, panel, run)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    return figure


def _draw_panel(axes: Axes, panel: Panel, run: Run) -> None:
    for (name, label), (colour, line, marker) in zip(panel.measures.items(), cycle(STYLES), strict=False):
        epochs, values = run.curve(name)
        if epochs:
            axes.plot(epochs, values, color=colour, linestyle=line, marker=marker, ms=3, lw=1.1, label=label)
    plain(axes)
    axes.set_title(panel.title)
    axes.set_xlabel("epochs done" if run.config else "steps done")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.12)
    if len(axes.lines) > 1:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.45, -0.28),
            ncols=2,
            fontsize=6.5,
            handlelength=2.2,
            columnspacing=0.8,
            borderpad=0,
        )
