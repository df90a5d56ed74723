"""What the page shows, as plain values: tables, pictures as data URIs, clusters and rankings with thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mgot.analysis.diagnostics.images import read_rankings
from mgot.analysis.diagnostics.record import EpochRecord, read_record, record_path, recorded_epochs
from mgot.analysis.diagnostics.run import Run
from mgot.analysis.pictures.album import first_rankings, recorded_sharpness, truth_of
from mgot.analysis.pictures.curves import draw_curves
from mgot.analysis.pictures.degraded import draw_degraded
from mgot.analysis.pictures.distances import draw_distances
from mgot.analysis.pictures.feature_map import draw_feature_maps
from mgot.analysis.pictures.plan import draw_plans, kept_matches
from mgot.analysis.pictures.roc import draw_roc
from mgot.analysis.pictures.sizes import draw_sizes
from mgot.analysis.pictures.style import encode
from mgot.analysis.report.thumbnails import Thumbnails, data_uri
from mgot.errors import UserError
from mgot.evaluation.roc import ROC_FIGURES
from mgot.progress import progress

PLANS = 40  # epochs in the slider, evenly chosen if there are more
CLUSTERS = 12
MEMBERS = 5
PLAN_DOTS, PICTURE_DOTS = 110, 130
_SEED = 0
FIGURES = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
NAMES = {"rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "rank20": "Rank-20"}


def results_table(run: Run) -> dict[str, Any]:
    """Header and rows of the results, figures in percent with two decimals; no rows if nothing was scored."""
    scored = run.results.get("rows", [])
    figures = [*FIGURES, *(name for name in ROC_FIGURES if any(name in row for row in scored))]
    rows = [
        [
            row.get("stage", ""),
            row.get("protocol", ""),
            *(_percent(row, name) for name in figures),
            row.get("draws", ""),
        ]
        for row in scored
    ]
    return {"header": ["stage", "protocol", *(NAMES.get(name, name) for name in figures), "draws"], "rows": rows}


def _percent(row: dict[str, Any], name: str) -> str:
    if name not in row:
        return ""
    spread = f" ± {row[f'{name}_std']:.2f}" if f"{name}_std" in row and name == "rank1" else ""
    return f"{row[name]:.2f}{spread}"


def readable_records(folder: Path) -> tuple[list[EpochRecord], list[str]]:
    """The records that can be read, evenly thinned to PLANS with the first and last, and remarks about the others."""
    epochs, records, remarks = recorded_epochs(folder), [], []
    chosen = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), PLANS)).round().astype(int))
    for epoch in (epochs[i] for i in chosen):
        try:
            records.append(read_record(record_path(folder, epoch)))
        except UserError as error:
            remarks.append(str(error))
    if len(chosen) < len(epochs):
        remarks.append(f"{len(chosen)} of the {len(epochs)} recorded epochs are shown")
    return records, remarks


def plan_pictures(records: Sequence[EpochRecord]) -> list[dict[str, Any]]:
    """Epoch and picture of each plan."""
    return [
        {
            "epoch": int(record.epoch),
            "uri": data_uri(encode(draw_plans([record], width=8.0), "png", PLAN_DOTS), "image/png"),
        }
        for record in progress(records, "plans", len(records))
    ]


def pictures(run: Run, records: Sequence[EpochRecord], images: Mapping[str, Any]) -> list[dict[str, str]]:
    """Title, explanation and data URI of the other pictures, the first record beside the last, as far as they exist."""
    pair = [records[i] for i in dict.fromkeys((0, len(records) - 1))] if records else []
    drawn: list[tuple[str, str, Callable[[], Figure | None]]] = [
        ("Curves", "Measures at an epoch's start stand at the epochs done before it.", lambda: draw_curves(run)),
        (
            "ROC",
            "Of the first search, by fast-reid's definition: a positive is a pair of different people.",
            lambda: draw_roc(first_rankings(run.folder)),
        ),
    ]
    if pair:
        truth = truth_of(images)
        drawn += [
            (
                "Feature map",
                "t-SNE of training images: a dozen people by colour and number, markers by modality.",
                lambda: draw_feature_maps(pair, truth),
            ),
            (
                "With and without the uniform prior",
                "How often each cluster is taken when plain argmax, or the transport, matches the same prototypes.",
                lambda: draw_degraded(pair, recorded_sharpness(run)),
            ),
            ("Cluster sizes", "Outliers belong to no cluster.", lambda: draw_sizes(pair)),
            ("Distances", "Of pairs of sampled training images, by ground truth.", lambda: draw_distances(pair)),
        ]
    shown = []
    for title, text, draw in progress(drawn, "pictures", len(drawn)):
        figure = draw()
        if figure is not None:
            uri = data_uri(encode(figure, "png", PICTURE_DOTS), "image/png")
            shown.append({"title": title, "text": text, "uri": uri})
    return shown


def cluster_sheets(images: Mapping[str, Any], record: EpochRecord, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Some visible clusters with the infrared ones they are matched to, wrong matches and right ones in turn."""
    kinds = kept_matches(record).kinds
    matched = [int(v) for v in np.random.default_rng(_SEED).permutation(np.flatnonzero(record.v2r >= 0))]
    known = dict.fromkeys(matched, "")
    for i, v in enumerate(record.kept_v):
        found = np.flatnonzero(record.kept_r == record.v2r[v])
        if int(v) in known and len(found):
            known[int(v)] = ("wrong", "right", "")[kinds[i, found[0]]]
    sides = [[v for v in matched if (known[v] == "wrong") == wrong] for wrong in (True, False)]
    mixed = [v for pair in _in_turn(*sides) for v in pair][:CLUSTERS]
    return [
        {
            "verdict": known[v],
            "visible": _members("visible", v, record.labels_v, images, thumbnails),
            "infrared": _members("infrared", int(record.v2r[v]), record.labels_r, images, thumbnails),
        }
        for v in mixed
    ]


def _in_turn(first: Sequence[int], second: Sequence[int]) -> Iterable[list[int]]:
    for i in range(max(len(first), len(second))):
        yield [*first[i : i + 1], *second[i : i + 1]]


def _members(name: str, number: int, labels: np.ndarray, listed: Any, thumbnails: Thumbnails) -> dict[str, Any]:
    members = np.flatnonzero(labels == number)
    shown = np.sort(np.random.default_rng(_SEED).permutation(members)[:MEMBERS])
    chosen = [listed[name]["paths"][i] for i in shown]
    images = [{"path": path, "uri": thumbnails(path)} for path in chosen]
    return {"number": number, "size": len(members), "images": images}


def ranking_lists(folder: Path, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Lists of rankings.json, last stage first, with thumbnails: title and queries; none if there is no file.

    Some queries for each stage, and for the last one also the queries with the lowest average precision.
    """
    shown = []
    for back, (stage, rankings) in enumerate(reversed(read_rankings(folder).items())):
        for ranking in rankings:
            title = f"{stage}, {ranking['protocol']}"
            shown.append({"title": title, "queries": _with_thumbnails(ranking["queries"], thumbnails)})
            if "worst" in ranking and back == 0:
                worst = _with_thumbnails(ranking["worst"], thumbnails)
                shown.append({"title": f"{title}, worst first", "queries": worst})
    return shown


def _with_thumbnails(queries: Sequence[dict[str, Any]], thumbnails: Thumbnails) -> list[dict[str, Any]]:
    return [
        {**_with_image(query, thumbnails), "found": [_with_image(each, thumbnails) for each in query["found"]]}
        for query in queries
    ]


def _with_image(entry: dict[str, Any], thumbnails: Thumbnails) -> dict[str, Any]:
    return {**entry, "uri": thumbnails(entry["path"])}
