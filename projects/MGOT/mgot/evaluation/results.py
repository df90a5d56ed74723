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

logger = logging.getLogger("mgot")

_COLUMNS = {"stage": "stage", "protocol": "protocol", "rank1": "Rank-1", "rank1_std": "+-", "rank5": "Rank-5",
            "rank10": "Rank-10", "rank20": "Rank-20", "mAP": "mAP", "mINP": "mINP",
            "draws": "draws", "flip": "flip"}  # fmt: skip
STAGES = ("initial", "intra", "fittest", "final")
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
            self.content.update(_read(path))
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
            logger.warning(f"{path} is missing: the rows of the stages {', '.join(stages)} cannot be copied")
        found = _read(path) if path.is_file() else {"rows": [], "seconds": {}}
        rows = [row for row in found["rows"] if row["stage"] in stages]
        seconds = {stage: value for stage, value in found["seconds"].items() if stage in stages}
        self.content.update(rows=rows, seconds=seconds)
        if write:
            self._write()

    def _write(self) -> None:
        write_atomically(self.path, json.dumps(self.content, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content["rows"], list) and isinstance(content["seconds"], dict):
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} is damaged: remove it; a resumed run writes the rows to come")


def format_rows(rows: Sequence[dict[str, Any]], ground_truth: str = "") -> str:
    """The table of some rows, figures in percent with two decimals; marked where training used the ground truth."""
    columns = {**_COLUMNS, **{name: name for name in ROC_FIGURES if any(name in row for row in rows)}}
    body = [[row.get(key, "") for key in columns] for row in rows]
    table = tabulate(body, headers=list(columns.values()), tablefmt="pipe", floatfmt=".2f")
    return f"{table}\n{GROUND_TRUTH_MARK}: {ground_truth}" if ground_truth else table
