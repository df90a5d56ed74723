"""The tables of a grid, in Markdown and JSON, from what its trainings left."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mgot.engine.ablation.grid import Row, Table
from mgot.engine.ablation.runs import Outcome, Run
from mgot.engine.results import GROUND_TRUTH_MARK
from mgot.files import write_atomically

FIGURES = {"rank1": ("Rank-1", 2), "mAP": ("mAP", 2), "matching_accuracy": ("matching accuracy", 3)}
NOTE = (
    "Mean +- sample deviation over the seeds that finished: Rank-1 and mAP after the last epoch in percent, matching"
    " accuracy at its start as a share, by ground truth. Collapsed: runs whose final Rank-1 is below the one before"
    " training, or that had an epoch in which a modality gave no cluster."
)


def command_of(command: Sequence[str], options: Sequence[str]) -> str:
    """A training's command line as one types it; ``SEED s`` stands for each seed."""
    return f"python {shlex.join([*command, *options])} SEED s"


def describe(
    tables: Sequence[Table], runs: Sequence[Run], outcomes: Mapping[Run, Outcome], command: Sequence[str]
) -> dict[str, Any]:
    """All that the tables say, as plain values.

    Args:
        tables: of the grid.
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
    return {"seeds": sorted({run.seed for run in runs}), "note": NOTE, "tables": described}


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
    """The tables for people; a failed run shows the last line it wrote, a row that saw ground truth its mark."""
    seeds = ", ".join(map(str, described["seeds"]))
    parts = [f"{described['note']} Seeds s: {seeds}."]
    for table in described["tables"]:
        headers = ["", *(title for title, _ in FIGURES.values()), "collapsed", "runs", "command"]
        body = [_cells(row) for row in table["rows"]]
        parts.append(f"### {table['title']}\n\n{tabulate(body, headers, tablefmt='github', disable_numparse=True)}")
    return "\n\n".join(parts) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    name = f"{row['name']} ({GROUND_TRUTH_MARK})" if row["ground_truth"] else row["name"]
    errors = [f"seed {run['seed']} failed: {run['error']}" for run in row["runs"] if run["status"] == "failed"]
    state = "; ".join([f"{row['done']} of {row['asked']}", *errors])
    figures = [_figure(row[key], digits) for key, (_, digits) in FIGURES.items()]
    collapsed = str(row["collapsed"]) if row["done"] else ""
    return [_escape(cell) for cell in (name, *figures, collapsed, state)] + [f"`{_escape(row['command'])}`"]


def _figure(value: Mapping[str, float | None], digits: int) -> str:
    if value["mean"] is None:
        return ""
    deviation = "" if value["deviation"] is None else f" +- {value['deviation']:.{digits}f}"
    return f"{value['mean']:.{digits}f}{deviation}"


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")


def write_tables(output: Path, described: Mapping[str, Any]) -> None:
    """table.md and table.json in a folder, each whole or not at all."""
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "table.json", json.dumps(described, indent=2) + "\n")
    write_atomically(output / "table.md", markdown(described))
