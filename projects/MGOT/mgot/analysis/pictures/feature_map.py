"""t-SNE of the features of both modalities: colour = identity, marker = modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.manifold import TSNE

from mgot.analysis.diagnostics.record import EpochRecord
from mgot.analysis.pictures.style import DOZEN, GREY, new_figure, styled

POINTS = 900
PERPLEXITY = 20.0
_SEED = 0


class Truth(NamedTuple):
    """(N_v,) and (N_r,) identities of the training images, negative where unknown."""

    visible: np.ndarray
    infrared: np.ndarray


def chosen_identities(truth: Truth, record: EpochRecord, count: int = len(DOZEN)) -> list[int]:
    """Seeded identities among those with most sampled images in the scarcer modality; none without ground truth."""
    ids_v, ids_r = truth.visible[record.sample_v], truth.infrared[record.sample_r]
    shared = np.intersect1d(ids_v[ids_v >= 0], ids_r[ids_r >= 0])
    amount = np.array([min((ids_v == each).sum(), (ids_r == each).sum()) for each in shared])
    order = np.random.default_rng(_SEED).permutation(len(shared))
    return [int(each) for each in shared[order][np.argsort(-amount[order], kind="stable")][:count]]


def shown_images(truth: Truth, record: EpochRecord, chosen: Sequence[int]) -> np.ndarray:
    """Positions among the sampled images, visible then infrared: all of the chosen identities and some of the rest."""
    ids = np.concatenate([truth.visible[record.sample_v], truth.infrared[record.sample_r]])
    strong = np.flatnonzero(np.isin(ids, chosen))
    rest = np.random.default_rng(_SEED).permutation(np.flatnonzero(~np.isin(ids, chosen)))
    return np.sort(np.concatenate([strong, rest[: max(POINTS - len(strong), 0)]]))


def embed_map(record: EpochRecord, shown: np.ndarray) -> np.ndarray:
    """(n, 2) t-SNE of the shown images' features, by cosine; zeros if there are fewer than four."""
    if len(shown) < 4:
        return np.zeros((len(shown), 2))
    features = np.concatenate([record.features_v, record.features_r]).astype(np.float32)[shown]
    perplexity = min(PERPLEXITY, (len(shown) - 1) / 3)
    return TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=_SEED).fit_transform(features)


@styled
def draw_feature_maps(records: Sequence[EpochRecord], truth: Truth, *, width: float = 7.0) -> Figure:
    """A map for each record, side by side: the same images, a dozen identities numbered and coloured, the rest grey."""
    figure, (axes,) = new_figure(1, len(records), (width, 0.56 * width if len(records) > 1 else width))
    for axis, record in zip(axes, records, strict=True):
        chosen = chosen_identities(truth, record)
        shown = shown_images(truth, record, chosen)
        _draw_map(axis, record, truth, shown, chosen)
        stage = "before training" if int(record.epoch) == 0 else f"at the start of epoch {int(record.epoch)}"
        axis.set_title(f"features {stage}")
    handles = [
        Line2D([], [], marker=marker, linestyle="", color="black", markersize=4.5, markerfacecolor=face, label=label)
        for marker, face, label in (("o", "none", "visible"), ("^", "black", "infrared"))
    ]
    handles.append(Line2D([], [], marker="s", linestyle="", color="#CCCCCC", markersize=4.5, label="other people"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _draw_map(axes: Axes, record: EpochRecord, truth: Truth, shown: np.ndarray, chosen: Sequence[int]) -> None:
    points = embed_map(record, shown)
    ids = np.concatenate([truth.visible[record.sample_v], truth.infrared[record.sample_r]])[shown]
    visible = shown < len(record.sample_v)
    axes.set_xticks([])
    axes.set_yticks([])
    for marker, own in (("o", visible), ("^", ~visible)):
        rest = own & ~np.isin(ids, chosen)
        axes.scatter(points[rest, 0], points[rest, 1], s=5, marker=marker, color="#D8D8D8", linewidths=0)
    for number, (identity, colour) in enumerate(zip(chosen, DOZEN, strict=False), start=1):
        for own, marker, face in ((visible, "o", "none"), (~visible, "^", colour)):
            group = points[own & (ids == identity)]
            axes.scatter(
                group[:, 0], group[:, 1], s=16, marker=marker, facecolors=face, edgecolors=colour, linewidths=0.9
            )
            if len(group):
                centre = group[np.linalg.norm(group - np.median(group, axis=0), axis=1).argmin()]
                axes.annotate(
                    str(number),
                    centre,
                    xytext=(4, 4),
                    textcoords="offset points",
                    fontsize=7,
                    fontweight="bold",
                    color=colour,
                    path_effects=[withStroke(linewidth=1.5, foreground="white")],
                )
    if not chosen:
        axes.text(0.02, 0.98, "no ground truth", transform=axes.transAxes, va="top", color=GREY)
