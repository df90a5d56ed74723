"""The tables of a grid as bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgot.analysis.ablation.tables import shown_name
from mgot.analysis.pictures.bars import Bar, draw_bars
from mgot.analysis.pictures.style import save

QUANTITY = "Rank-1, and the share of right matches at the last epoch's start"


def draw_tables(output: Path, described: Mapping[str, Any]) -> list[Path]:
    """Draw the rows' Rank-1 into table.png and table.svg of a folder; the files, none if no run is done."""
    panels = {table["title"]: [_bar(row) for row in table["rows"]] for table in described["tables"]}
    if not any(bar.mean is not None for bars in panels.values() for bar in bars):
        return []
    return save(draw_bars(panels, QUANTITY), output, "table")


def _bar(row: Mapping[str, Any]) -> Bar:
    seeds = [run["rank1"] for run in row["runs"] if "rank1" in run]
    notes = [] if row["done"] == row["asked"] else [f"{row['done']} of {row['asked']} runs"]
    if row["matching_accuracy"]["mean"] is not None:
        notes.append(f"{row['matching_accuracy']['mean']:.2f}")
    diagnosis = bool(row["ground_truth"])
    return Bar(shown_name(row), row["rank1"]["mean"], row["rank1"]["deviation"], seeds, ", ".join(notes), diagnosis)
