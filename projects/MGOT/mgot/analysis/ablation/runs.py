"""The trainings of a grid, each in a folder of its own, and what they left there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mgot.analysis.ablation.grid import Configuration, Table
from mgot.analysis.diagnostics.run import read_metrics
from mgot.evaluation.results import read_results
from mgot.forms import figure


@dataclass(frozen=True)
class Run:
    """One training: a configuration, a seed, a folder, and the data root if it is not the environment's."""

    config: Configuration
    seed: int
    folder: Path
    root: Path | None = None

    def begun(self) -> bool:
        """Whether it continues from its own checkpoint."""
        return (self.folder / "last_checkpoint").is_file()


@dataclass(frozen=True)
class Outcome:
    """What a training left.

    Attributes:
        status: "done", "failed", or "left" if it has not finished yet.
        figures: of the final row of the first protocol: rank1 and mAP; matching_accuracy of the last epoch's start, and
            matching_at_start, that of the first epoch of the cross-modality stage; seconds of all epochs, including
            those of a shared intra-modality stage.
        collapsed: the final Rank-1 is below the one before training, or an epoch gave a modality no cluster.
        error: the last line that a failed training wrote.
    """

    status: str
    figures: dict[str, float] = field(default_factory=dict)
    collapsed: bool = False
    error: str = ""


def runs_of(tables: Iterable[Table], seeds: Iterable[int], output: Path, roots: Mapping[int, Path]) -> list[Run]:
    """Each configuration's runs once, seed by seed, so complete tables exist early. ``roots``: seed -> data root."""
    configs = dict.fromkeys(row.config for table in tables for row in table.rows)
    return [
        Run(config, seed, output / config.slug / f"seed_{seed}", roots.get(seed))
        for seed in seeds
        for config in configs
    ]


def read_outcome(run: Run) -> Outcome:
    """What the folder of a run holds; "left" if its results.json has no final row."""
    results = run.folder / "results.json"
    content = read_results(results) if results.is_file() else {"rows": []}
    rows = content["rows"]
    final = next((row for row in rows if row["stage"] == "final"), None)
    if final is None:
        return Outcome("left")
    start = [row for row in rows if row["stage"] == "initial" and row["protocol"] == final["protocol"]]
    lines = read_metrics(run.folder / "metrics.json")
    if lines and "intra_from" in content:
        begin = min(line["iteration"] for line in lines)
        donors = read_metrics(Path(content["intra_from"]).parent / "metrics.json")
        lines = [line for line in donors if line["iteration"] < begin] + lines
    fell = any(final["rank1"] < row["rank1"] for row in start)
    unlabelled = any(line.get(f"{name}/labels_kept", 0) > 0 for line in lines for name in ("visible", "infrared"))
    figures = {"rank1": final["rank1"], "mAP": final["mAP"], **_figures(lines, run.config.cross_start)}
    return Outcome("done", figures, fell or unlabelled)


def _figures(lines: Sequence[Mapping[str, float]], cross_start: int | None) -> dict[str, float]:
    name, found = "truth/matching_accuracy", {}
    starts = [line for line in lines if figure(line.get(name))]
    if starts:
        found["matching_accuracy"] = starts[-1][name]
    cross = [line for line in starts if cross_start is not None and line["iteration"] >= cross_start]
    if cross:
        found["matching_at_start"] = cross[0][name]
    seconds = {
        (line["iteration"], key): value
        for line in lines
        for key, value in line.items()
        if key.startswith("seconds/") and figure(value)
    }
    return {**found, "seconds": sum(seconds.values())} if seconds else found
