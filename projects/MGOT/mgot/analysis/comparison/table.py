"""Runs side by side as Markdown and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from mgot.analysis.diagnostics.run import Run, differences

MEASURES = {
    "matching accuracy": "truth/matching_accuracy",
    "ARI visible": "truth/visible_ari",
    "ARI infrared": "truth/infrared_ari",
}
FIGURES = {"Rank-1": "rank1", "mAP": "mAP", "mINP": "mINP"}
LEGEND = (
    "Rank-1, mAP and mINP in percent, after the last epoch, +- the deviation over trials; matching accuracy and ARI"
    " against ground truth, at the last epoch's start; - if a run did not record it."
)
_ABSENT = "-"


def summary(run: Run) -> dict[str, Any]:
    """What is compared of one run, as JSON can hold it; None if the run did not record it."""
    kept = ("protocol", *FIGURES.values(), *(f"{key}_std" for key in FIGURES.values()))
    rows = [{key: row[key] for key in kept if key in row} for row in run.rows]
    return {
        "label": run.label,
        "folder": str(run.folder),
        "status": run.status,
        "seed": run.seed,
        "rows": rows,
        **{name.replace(" ", "_").lower(): run.last(key) for name, key in MEASURES.items()},
        "seconds": run.seconds,
    }


def results_table(runs: Sequence[Run]) -> str:
    """Markdown: a line for each run and protocol, figures of the end in percent, measures of the last epoch's start."""
    head = ["run", "status", "seed", "protocol", *FIGURES, *MEASURES, "minutes"]
    body = []
    for run in runs:
        minutes = None if run.seconds is None else run.seconds / 60
        measures = [_number(run.last(key), 3) for key in MEASURES.values()]
        for row in run.rows or [{}]:
            figures = [_figure(row, key) for key in FIGURES.values()]
            seed = _ABSENT if run.seed is None else str(run.seed)
            protocol = row.get("protocol", _ABSENT)
            body.append([_plain(run.label), run.status, seed, protocol, *figures, *measures, _number(minutes, 1)])
    return _markdown(body, head)


def differences_table(runs: Sequence[Run]) -> str:
    """Markdown: a line for each config key on which the runs differ, or a sentence if there is none."""
    found = differences(runs)
    without = [run.label for run in runs if not run.config]
    note = f"\n\nwithout a config.yaml: {', '.join(without)}" if without else ""
    if not found:
        return f"The configs differ only in OUTPUT_DIR.{note}"
    body = [
        [key, *(_ABSENT if value is None else _plain(str(value)) for value in values)] for key, values in found.items()
    ]
    return _markdown(body, ["key", *(_plain(run.label) for run in runs)]) + note


def comparison(runs: Sequence[Run]) -> str:
    """The whole page in Markdown."""
    return f"{results_table(runs)}\n\n{LEGEND}\n\n{differences_table(runs)}\n"


def _figure(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return _ABSENT
    deviation = row.get(f"{key}_std")
    return f"{row[key]:.2f}" + (f" +- {deviation:.2f}" if deviation is not None else "")


def _number(value: float | None, digits: int) -> str:
    return _ABSENT if value is None else f"{value:.{digits}f}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _markdown(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    return tabulate(body, headers=head, tablefmt="pipe", disable_numparse=True)
