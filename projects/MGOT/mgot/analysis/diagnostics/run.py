"""One run, read from its folder: config.yaml, metrics.json and results.json, if they are there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgot.errors import UserError, shortened
from mgot.evaluation.results import read_results
from mgot.forms import count, figure, fits, number, parsed, parsed_yaml, text, whole

FILES = ("config.yaml", "metrics.json", "results.json")
OWN_KEYS = frozenset({"OUTPUT_DIR"})  # differ between any two runs
_LINE = {"iteration": count, ...: number}
_CONFIG = {  # of the keys that a report computes with
    "MGOT.CROSS_START_EPOCH?": count,
    "MGOT.ITERS_PER_EPOCH?": lambda steps: count(steps) and steps > 0,
    "SOLVER.MAX_EPOCH?": count,
    "SEED?": whole,
    "MGOT.MATCHER.LAMBDA?": lambda sharpness: number(sharpness) and sharpness > 0,
    "MGOT.MATCHER.SUPPLY?": text,
}
_AT_START = ("truth/", "matching/", "visible/", "infrared/", "sharpness/", "fairness/")


@dataclass(frozen=True)
class Run:
    """What a run left.

    Attributes:
        folder: its OUTPUT_DIR.
        label: a short name, unique among the runs that are compared.
        config: values by dotted key; empty if there is no config.yaml.
        results: the content of results.json; empty if there is none.
        metrics: the lines of metrics.json.
    """

    folder: Path
    label: str
    config: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, float]] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The final rows, one for each protocol; none if the run has not finished."""
        return [row for row in self.results.get("rows", []) if row.get("stage") == "final"]

    @property
    def steps_per_epoch(self) -> int:
        """1 if there is no config; the epochs of a curve are then steps."""
        return int(self.config.get("MGOT.ITERS_PER_EPOCH", 1))

    @property
    def seed(self) -> int | None:
        """None if it is not recorded."""
        return self.config.get("SEED", self.results.get("seed"))

    @property
    def seconds(self) -> float | None:
        """Time of training and scoring up to the last scored stage; None if none was scored."""
        seconds = self.results.get("seconds")
        return sum(seconds.values()) if seconds else None

    @property
    def status(self) -> str:
        """Finished, only scored, a mean of trials, unfinished at some epoch, or without results."""
        trained = [line["iteration"] + 1 for line in self.metrics if "total_loss" in line]
        if self.rows and "trials" in self.results:
            return f"mean of {len(self.results['trials'])} trials"
        if self.rows:
            return "finished" if trained else "scored, not trained"
        if trained:
            epochs = self.config.get("SOLVER.MAX_EPOCH", "?")
            return f"unfinished: {max(trained) // self.steps_per_epoch} of {epochs} epochs"
        return "no results"

    def last(self, name: str) -> float | None:
        """The newest value of a measure's :meth:`curve`; None if there is none."""
        values = self.curve(name)[1]
        return values[-1] if values else None

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Number of finished epochs and the measure's value there; for a repeated epoch, its last value.

        Labels and matches are measured at an epoch's start, losses over it and scores at its end. Values that are no
        :func:`mgot.forms.figure` are left out.
        """
        done = 0 if name.startswith(_AT_START) else 1
        points = {}
        for line in self.metrics:
            if figure(line.get(name)):
                points[(line["iteration"] + done) / self.steps_per_epoch] = float(line[name])
        for row in self.results.get("rows", []):
            protocol, _, own = name.rpartition("/")
            if row.get("stage") == "initial" and row["protocol"] == protocol and own in row:
                points[0.0] = float(row[own])
        epochs = sorted(points)
        return epochs, [points[epoch] for epoch in epochs]


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read runs, in the order given.

    Raises:
        UserError: a folder is missing or no run's, is given twice, or holds a file that is damaged.
    """
    paths = [Path(folder) for folder in folders]
    real = [path.resolve() for path in paths]
    for path, resolved in zip(paths, real, strict=True):
        if real.count(resolved) > 1:
            raise UserError(f"{path} is given twice: name each run once")
    names = [resolved.name for resolved in real]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
    return [read_run(path, label) for path, label in zip(paths, labels, strict=True)]


def read_run(folder: Path, label: str) -> Run:
    """Read one run; raises as :func:`read_runs` does."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: name the OUTPUT_DIR of a run")
    if not any((folder / name).is_file() for name in FILES):
        raise UserError(f"{folder} is not a run: it holds none of {', '.join(FILES)}; name the OUTPUT_DIR of a run")
    return Run(
        folder,
        label,
        _config(folder / "config.yaml"),
        read_results(folder / "results.json") if (folder / "results.json").is_file() else {},
        read_metrics(folder / "metrics.json"),
    )


def _config(path: Path) -> dict[str, Any]:
    """Values by dotted key; {} where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = parsed_yaml(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not the YAML that a run writes ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not the YAML that a run writes (it holds a {type(content).__name__})")
    found = _flat(content)
    for key, form in _CONFIG.items():
        if not fits(found, {key: form}):
            told = shortened(repr(found[key.rstrip("?")]), 100)
            raise UserError(f"{path}: not the YAML that a run writes ({key.rstrip('?')} is {told})")
    return found


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for key, value in node.items():
        pairs.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return pairs


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.json that can be read, none where there is no file.

    A run that was killed may have left part of a line.
    """
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError):
            content = parsed(line)
            if fits(content, _LINE):
                lines.append(content)
    return lines


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Values of the config keys on which runs differ, by key, in the runs' order; None if a run does not have the key.

    Runs without a config.yaml have None. OUTPUT_DIR and keys with the same value in all runs are left out.
    """
    known = [run for run in runs if run.config]
    keys = sorted({key for run in known for key in run.config} - OWN_KEYS)
    return {
        key: [run.config.get(key) for run in runs]
        for key in keys
        if any(run.config.get(key) != known[0].config.get(key) for run in known)
    }
