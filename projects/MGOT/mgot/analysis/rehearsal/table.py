"""The rehearsal's table, and what it says below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEAD = ("stage", "whole run", "each", "found by", "")
OK, FAILS, NOT_TRIED = "ok", "FAILS", "not tried"


@dataclass
class Row:
    """A stage, or something that a run needs.

    Attributes:
        name: of the stage.
        seconds: for the whole run; None if the row is not a time.
        whole: for the whole run in words, such as "3.1 of 8.0 GB"; empty: the seconds.
        each: how often and how long each time.
        found: how that was found.
        failure: what would fail and which key to change; empty if nothing would.
        tried: whether the stage could be rehearsed at all.
    """

    name: str
    seconds: float | None = None
    whole: str = ""
    each: str = ""
    found: str = ""
    failure: str = ""
    tried: bool = True

    @property
    def verdict(self) -> str:
        """A word on how it went."""
        return FAILS if self.failure else OK if self.tried else NOT_TRIED


def duration(seconds: float) -> str:
    """Seconds in a suitable unit: "2.5 ms", "0.25 s", "12 s", "3.4 min", "2.1 h", "5.0 days"."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def times(count: int, seconds: float) -> str:
    """How often a part of a run runs, and how long it takes each time."""
    return f"{count:,} x {duration(seconds)}"


def gigabytes(value: float) -> str:
    """Bytes in 10^9."""
    return f"{value / 1e9:.2f} GB" if value < 1e10 else f"{value / 1e9:.1f} GB"


def total(rows: Sequence[Row]) -> Row:
    """The sum of the times, and a note if parts of it are not known."""
    unknown = [row.name for row in rows if row.seconds is None and not row.whole]
    found = f"without {', '.join(unknown)}" if unknown else ""
    return Row("whole run", sum(row.seconds or 0.0 for row in rows), found=found)


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table with even columns."""
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    whole = row.whole or ("" if row.seconds is None else duration(row.seconds))
    return row.name, whole, row.each, row.found, row.verdict


def told(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The table, then a line for each failure and each note, then the result."""
    failures = [f"- {row.name} FAILS: {row.failure}" for row in rows if row.failure]
    remarks = [f"- note: {note}" for note in dict.fromkeys(notes)]
    last = f"{len(failures)} of these would fail" if failures else "nothing would fail"
    return "\n".join([table(rows), "", *failures, *remarks, last])
