"""The tables of a grid, in Markdown and JSON, from what its trainings left."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mgot.analysis.ablation.grid import Row, Table
from mgot.analysis.ablation.runs import Outcome, Run
from mgot.evaluation.results import GROUND_TRUTH_MARK
from mgot.files import write_atomically

FIGURES = {
    "rank1": ("Rank-1", 2),
    "mAP": ("mAP", 2),
    "matching_at_start": ("matching at the cross stage's start", 3),
    "matching_accuracy": ("matching accuracy", 3),
    "seconds": ("seconds", 0),
}
NOTE = (
    "Mean +- sample deviation over the seeds that finished: Rank-1 and mAP after the last epoch in percent, matching"
    " accuracy at its start, and at the start of the cross-modality stage, as shares, by ground truth. Seconds: of all"
    " epochs of a run, an intra-modality stage that it shares counted in full. Collapsed: runs whose final Rank-1 is"
    " below the one before training, or that had an epoch in which a modality gave no cluster."
)


def command_of(command: Sequence[str], options: Sequence[str]) -> str:
    """A training's command line; ``SEED s`` stands for each seed."""
    return f"python {shlex.join([*command, *options])} SEED s"


def describe(
    tables: Sequence[Table], runs: Sequence[Run], outcomes: Mapping[Run, Outcome], command: Sequence[str]
) -> dict[str, Any]:
    """All that the tables say, as plain values.

    Args:
        tables: with the rows to show.
        runs: every run of these tables.
        outcomes: of each run.
        command: of a training, as the table shows it.
    """
    described = []
    for table in tables:
        rows = [
            _describe_row(row, {run: outcomes[run] for run in runs if run.config == row.config}) for row in table.rows
        ]
        for row, about in zip(table.rows, rows, strict=True):
            about["command"] = command_of(command, row.config.options)
        described.append({"title": table.title, "rows": rows})
    roots = {run.seed: str(run.root) for run in runs if run.root}
    return {"seeds": sorted({run.seed for run in runs}), "roots": roots, "note": NOTE, "tables": described}


def _describe_row(row: Row, outcomes: Mapping[Run, Outcome]) -> dict[str, Any]:
    done = [outcome for outcome in outcomes.values() if outcome.status == "done"]
    figures = {name: _mean([o.figures[name] for o in done if name in o.figures]) for name in FIGURES}
    return {
        "name": row.name,
        "keys": row.keys,
        "ground_truth": row.config.ground_truth,
        **figures,
        "collapsed": sum(outcome.collapsed for outcome in done),
        "done": len(done),
        "asked": len(outcomes),
        "runs": [
            {
                "seed": run.seed,
                "status": outcome.status,
                **outcome.figures,
                "collapsed": outcome.collapsed,
                "error": outcome.error,
                "folder": f"{run.folder.parent.name}/{run.folder.name}",
            }
            for run, outcome in outcomes.items()
        ],
    }


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    return {
        "mean": statistics.fmean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
    }


def markdown(described: Mapping[str, Any]) -> str:
    """The tables for people. A failed run shows the last line that it wrote. A row that used ground truth has a mark.

    If a column would say the same for every row, such as that no run collapsed, it is a sentence instead.
    """
    seeds = ", ".join(map(str, described["seeds"]))
    roots = ", ".join(f"{seed}: {root}" for seed, root in described["roots"].items())
    data = f" Each seed has data of its own, FASTREID_DATASETS of {roots}." if roots else ""
    parts = [f"{described['note']} Seeds s: {seeds}.{data}"]
    for table in described["tables"]:
        rows, said = table["rows"], {}
        if all(row["done"] == row["asked"] for row in rows):
            said["runs"] = f"Runs of each row: {rows[0]['asked']}."
        if not any(row["collapsed"] for row in rows):
            said["collapsed"] = "No run collapsed."
        cells = [{title: cell for title, cell in _columns(row).items() if title not in said} for row in rows]
        body = tabulate([list(row.values()) for row in cells], list(cells[0]), "github", disable_numparse=True)
        parts += [f"### {table['title']}", *([" ".join(said.values())] if said else []), body]
    return "\n\n".join(parts) + "\n"


def shown_name(row: Mapping[str, Any]) -> str:
    """The name of a described row, with a mark if it used ground truth."""
    return f"{row['name']} ({GROUND_TRUTH_MARK})" if row["ground_truth"] else row["name"]


def _columns(row: Mapping[str, Any]) -> dict[str, str]:
    """Header -> cell of a row."""
    errors = [f"seed {run['seed']} failed: {run['error']}" for run in row["runs"] if run["status"] == "failed"]
    cells = {
        "": shown_name(row),
        **{title: _figure(row[key], digits) for key, (title, digits) in FIGURES.items()},
        "collapsed": str(row["collapsed"]) if row["done"] else "",
        "runs": "; ".join([f"{row['done']} of {row['asked']}", *errors]),
    }
    return {title: _escape(cell) for title, cell in cells.items()} | {"command": f"`{_escape(row['command'])}`"}


def _figure(value: Mapping[str, float | None], digits: int) -> str:
    if value["mean"] is None:
        return ""
    deviation = "" if value["deviation"] is None else f" +- {value['deviation']:.{digits}f}"
    return f"{value['mean']:.{digits}f}{deviation}"


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")


def write_tables(output: Path, described: Mapping[str, Any]) -> None:
    """Write table.md and table.json into a folder; a kill never leaves half a file."""
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "table.json", json.dumps(described, indent=2) + "\n")
    write_atomically(output / "table.md", markdown(described))
