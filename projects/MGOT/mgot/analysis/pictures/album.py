"""All pictures of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mgot.analysis.diagnostics.images import read_images, read_rankings
from mgot.analysis.diagnostics.record import (
    FOLDER,
    EpochRecord,
    read_record,
    record_path,
    recorded_epochs,
    require_images,
)
from mgot.analysis.diagnostics.run import Run, read_run
from mgot.analysis.pictures.curves import draw_curves
from mgot.analysis.pictures.degraded import draw_degraded
from mgot.analysis.pictures.distances import draw_distances
from mgot.analysis.pictures.feature_map import Truth, draw_feature_maps
from mgot.analysis.pictures.plan import draw_plans
from mgot.analysis.pictures.rankings import draw_rankings
from mgot.analysis.pictures.roc import draw_roc
from mgot.analysis.pictures.sizes import draw_sizes
from mgot.analysis.pictures.style import save
from mgot.errors import UserError
from mgot.progress import progress

DEFAULT_LAMBDA = 25.0
WORST = 8  # queries in the picture of those that found their person worst


def first_rankings(run: Path) -> dict[str, dict[str, Any]]:
    """Stage -> what rankings.json holds of its first protocol, in the order of the stages; {} without such a file."""
    return {stage: rankings[0] for stage, rankings in read_rankings(run).items()}


def truth_of(images: Mapping[str, Any]) -> Truth:
    """Identities of the training images, from what :func:`read_images` gives."""
    return Truth(*(np.array(images[name]["identities"], dtype=np.int64) for name in ("visible", "infrared")))


def first_and(run: Path, epoch: int | None) -> list[EpochRecord]:
    """The first record and that of ``epoch`` (None: the last), or only one if they are the same.

    Raises:
        UserError: there are no records, or none of that epoch.
    """
    epochs = recorded_epochs(run)
    if not epochs:
        raise UserError(f"{run} holds no {FOLDER}/epoch_*.npz: train with MGOT.DIAGNOSTICS True, which is the default")
    wanted = epochs[-1] if epoch is None else epoch
    if wanted not in epochs:
        raise UserError(f"--epoch {wanted}: {run} has records of epochs {', '.join(map(str, epochs))}")
    return [read_record(record_path(run, each)) for each in dict.fromkeys((epochs[0], wanted))]


def recorded_sharpness(run: Run) -> float:
    """lambda of the run's config; the default if it is not recorded."""
    return float(run.config.get("MGOT.MATCHER.LAMBDA", DEFAULT_LAMBDA))


def draw_run(folder: Path, output: Path, epoch: int | None = None) -> list[Path]:
    """Draw every picture of a run: its first epoch and another one beside each other, and its curves.

    Args:
        folder: the run's OUTPUT_DIR.
        output: where the PNG and SVG files go.
        epoch: the other one; None for the last that was recorded.

    Returns:
        The files.

    Raises:
        UserError: the folder is no run's, holds no records, or none of that epoch.
    """
    run, images, stages = read_run(folder, folder.name), read_images(folder), first_rankings(folder)
    records, truth, root = first_and(folder, epoch), truth_of(images), Path(images.get("root", "datasets"))
    for record in records:
        require_images(record, images, folder)
    last: dict[str, Any] = list(stages.values())[-1] if stages else {}
    pictures: dict[str, Callable[[], Figure | None]] = {
        "plan": lambda: draw_plans(records),
        "degraded": lambda: draw_degraded(records, recorded_sharpness(run)),
        "features": lambda: draw_feature_maps(records, truth),
        "sizes": lambda: draw_sizes(records),
        "distances": lambda: draw_distances(records),
        "rankings": lambda: draw_rankings(last.get("queries", []), root),
        "worst": lambda: draw_rankings(last.get("worst", []), root, rows=WORST),
        "roc": lambda: draw_roc(stages),
        "curves": lambda: draw_curves(run),
    }
    files = []
    for name, draw in progress(list(pictures.items()), "draw"):
        figure = draw()
        if figure is not None:
            files += save(figure, output, name)
    return files
