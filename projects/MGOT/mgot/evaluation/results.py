"""results.json, the results of a run for programs, and the table for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mgot.errors import UserError
from mgot.evaluation.roc import ROC_FIGURES
from mgot.files import write_atomically
from mgot.forms import figure, fits, parsed, text, whole

logger = logging.getLogger("mgot")

_COLUMNS = {"stage": "stage", "protocol": "protocol", "rank1": "Rank-1", "rank1_std": "+-", "rank5": "Rank-5",
            "rank10": "Rank-10", "rank20": "Rank-20", "mAP": "mAP", "mINP": "mINP",
            "draws": "draws", "flip": "flip"}  # fmt: skip
STAGES = ("initial", "intra", "fittest", "final")
_FIGURES = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP", *ROC_FIGURES)
_ROW = {
    "stage": text,
    "protocol": text,
    "rank1": figure,
    "mAP": figure,
    **{f"{name}{more}?": figure for name in _FIGURES for more in ("", "_std")},
}
_FORM = {"rows": [_ROW], "seconds?": {...: figure}, "trials?": [whole], "ground_truth?": text, "intra_from?": text}
# What every table says of a training that used more than the images.
GROUND_TRUTH_MARK = "ground truth, diagnosis only"


class ResultsFile:
    """``{"rows": [{"stage", "protocol", "rank1", ...}], "seconds": {stage: ...}, ...}``, rewritten whole at each row.

    Args:
        path: the file; if it exists, rows of an earlier part of the same run are kept.
        about: facts that hold for all rows, such as the config file and the flip.
        fresh: start again, and ignore an existing file.

    Raises:
        UserError: the file exists and does not have this form.
    """

    def __init__(self, path: Path, about: dict[str, Any], *, fresh: bool = False) -> None:
        self.path = path
        self.content: dict[str, Any] = {"rows": [], "seconds": {}}
        if path.is_file() and not fresh:
            self.content.update(read_results(path))
        self.content.update(about)

    def clear(self) -> None:
        """Remove the rows of an earlier run, and where it started."""
        self.content.update(rows=[], seconds={})
        self.content.pop("intra_from", None)

    def add(self, stage: str, rows: Sequence[dict[str, Any]], seconds: float) -> None:
        """Replace the rows of a stage; ``seconds`` is the time that the stage took."""
        kept = [row for row in self.content["rows"] if row["stage"] != stage]
        self.content["rows"] = kept + [{"stage": stage, **row} for row in rows]
        self.content["seconds"][stage] = round(seconds, 3)
        self._write()

    def take_over(self, path: Path, stages: Sequence[str], *, write: bool = True) -> None:
        """Start with the rows and seconds of some stages from another run's file.

        If that file is missing, there is a warning.

        Raises:
            UserError: the other file is damaged.
        """
        if not path.is_file():
            logger.warning(f"{path} is missing: the rows of the stages {', '.join(stages)} cannot be taken over")
        found = read_results(path) if path.is_file() else {"rows": []}
        rows = [row for row in found["rows"] if row["stage"] in stages]
        seconds = {stage: value for stage, value in found.get("seconds", {}).items() if stage in stages}
        self.content.update(rows=rows, seconds=seconds)
        if write:
            self._write()

    def _write(self) -> None:
        write_atomically(self.path, json.dumps(self.content, indent=2) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """The content of a results.json.

    Raises:
        UserError: the file cannot be read, or is not of the form that :class:`ResultsFile` has.
    """
    try:
        content: dict[str, Any] = parsed(path.read_bytes())
        if fits(content, _FORM):
            return content
    except (OSError, ValueError):
        pass
    raise UserError(f"{path} is damaged: remove it; a resumed run writes the rows to come")


def format_rows(rows: Sequence[dict[str, Any]], ground_truth: str = "") -> str:
    """The table of some rows, figures in percent with two decimals; marked where training used the ground truth."""
    columns = {**_COLUMNS, **{name: name for name in ROC_FIGURES if any(name in row for row in rows)}}
    body = [[row.get(key, "") for key in columns] for row in rows]
    table = tabulate(body, headers=list(columns.values()), tablefmt="pipe", floatfmt=".2f")
    return f"{table}\n{GROUND_TRUTH_MARK}: {ground_truth}" if ground_truth else table
