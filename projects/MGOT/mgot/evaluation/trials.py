"""RegDB's ten splits: train on each, score on each, report the mean."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgot.errors import UserError
from mgot.evaluation.results import ResultsFile, read_results
from mgot.evaluation.roc import ROC_FIGURES
from mgot.evaluation.scoring import FIGURES


def final_rows(folder: Path) -> list[dict[str, Any]]:
    """The final rows of a finished training; none if there is no such training, UserError if they are damaged."""
    path = folder / "results.json"
    return [row for row in read_results(path)["rows"] if row["stage"] == "final"] if path.is_file() else []


def train_trials(command: Sequence[str], output: Path, trials: Sequence[int]) -> ResultsFile:
    """Train every trial that is not finished, each in a process and a folder of its own, and average them.

    Args:
        command: of one training; the keys of the trial and its folder are appended to it.
        output: folder of ``trial_1``, ``trial_2``, ... and of the mean's results.json.
        trials: numbers of the splits.

    Raises:
        UserError: a training failed; finished ones are kept and not run again.
    """
    rows = []
    for trial in trials:
        folder = output / f"trial_{trial}"
        if not final_rows(folder):
            keys = ["MGOT.TEST.REGDB_TRIAL", str(trial), "OUTPUT_DIR", str(folder)]
            status = subprocess.run([sys.executable, *command, *keys], check=False).returncode
            if status:
                raise UserError(f"trial {trial} ended with status {status}: fix it and run this again to continue")
        rows.append(final_rows(folder))
    output.mkdir(parents=True, exist_ok=True)
    first = read_results(output / f"trial_{trials[0]}" / "results.json")
    about = {"trials": list(trials), "ground_truth": first.get("ground_truth", "")}
    results = ResultsFile(output / "results.json", about, fresh=True)
    results.add("final", mean_rows(rows), 0.0)
    return results


def mean_rows(trials: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row per protocol: the mean over trials of each figure, and its deviation over them as a population.

    Args:
        trials: the final rows of each trial.

    Raises:
        UserError: a trial has no rows.
    """
    if not trials or not all(trials):
        raise UserError("a trial left no final rows: its training did not reach its end")
    by_protocol: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for rows in trials:
        for row in rows:
            by_protocol[row["protocol"]].append(row)
    means = []
    for protocol, rows_of in by_protocol.items():
        mean: dict[str, Any] = {"protocol": protocol, "n_trials": len(rows_of)}
        for figure in (name for name in (*FIGURES, *ROC_FIGURES) if all(name in row for row in rows_of)):
            values = [row[figure] for row in rows_of]
            mean[figure], mean[f"{figure}_std"] = statistics.fmean(values), statistics.pstdev(values)
        means.append(mean)
    return means
