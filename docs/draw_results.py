#!/usr/bin/env python3
"""Draw the tables of docs/results.md as bars, docs/results-*.svg: python docs/draw_results.py [FOLDER]."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mgot.analysis.pictures.bars import Bar, draw_bars
from mgot.analysis.pictures.style import encode
from mgot.evaluation.results import GROUND_TRUTH_MARK

DOCS = Path(__file__).resolve().parent
PICTURES = {"results-grounds.svg": "grounds", "results-unpaired.svg": "unpaired"}
CELL = re.compile(r"(?:(seed.*): )?([\d.]+)(?: ± ([\d.]+))? / [\d.]+(?: ± [\d.]+)?(?:, ([\d.]+))?")


def bars(table: str) -> dict[str, list[Bar]]:
    """The columns of a Markdown table, ``name: "Rank-1 ± deviation / mAP ± deviation, right matches"``."""
    lines = [[cell.strip(" *`") for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    (_, *titles), _, *rows = lines
    return {title: [_bar(row[0], row[n]) for row in rows] for n, title in enumerate(titles, start=1)}


def _bar(name: str, cell: str) -> Bar:
    found = CELL.fullmatch(cell)
    diagnosis = GROUND_TRUTH_MARK in name
    name = name.removesuffix(f" ({GROUND_TRUTH_MARK})") + " *" * diagnosis
    if found is None:
        return Bar(name, None, note=cell)
    seeds, mean, deviation, matches = found.groups()
    note = ", ".join(filter(None, (matches, seeds)))
    return Bar(name, float(mean), float(deviation) if deviation else None, note=note, diagnosis=diagnosis)


def draw(name: str) -> str:
    """The picture of a table between ``<!-- name table -->`` and ``<!-- end -->``, as SVG."""
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    _, _, after = text.partition(f"<!-- {name} table -->")
    table, end, _ = after.partition("<!-- end -->")
    if not end:
        raise SystemExit(f"docs/results.md has no table '{name}'")
    quantity = "Rank-1; right matches (* with ground truth)" if GROUND_TRUTH_MARK in table else "Rank-1; right matches"
    return encode(draw_bars(bars(table), quantity, width=8.6), "svg").decode()


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS
    for file, name in PICTURES.items():
        (folder / file).write_text(draw(name), encoding="utf-8")
