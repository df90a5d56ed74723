"""One call of tools/ablate.py: plan, what is left of it, and tables after each run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mgot.analysis.ablation.agenda import Agenda
from mgot.analysis.ablation.grid import Configuration, Table, plan
from mgot.analysis.ablation.runner import Runner
from mgot.analysis.ablation.runs import Outcome, Run, read_outcome, runs_of
from mgot.analysis.ablation.tables import describe, write_tables
from mgot.errors import UserError
from mgot.forms import parsed


class Ablation:
    """A grid with its seeds and folder.

    Args:
        config_file: the recipe that every run shares.
        grid: file of the tables.
        seeds: of each configuration.
        output: folder of the runs and tables.
        repository: root that holds the training command, ``training``; the tables name files from there.
        options: KEY VALUE pairs for every run.
        training: path of the training command in the repository.
        roots: seed -> folder of the data sets that its runs read; empty: that of the environment for all.
        share: runs that differ only in the cross-modality stage share one intra-modality stage.
        rows: beginnings of the names of the rows to train now; none means all.

    Raises:
        UserError: a mistake in the grid or the options, no row begins so, or the folder holds runs of these seeds on
            other data.
    """

    def __init__(
        self,
        config_file: str,
        grid: Path,
        seeds: Sequence[int],
        output: Path,
        repository: Path,
        options: Sequence[str] = (),
        training: str = "tools/train_net.py",
        roots: Mapping[int, Path] | None = None,
        share: bool = True,
        rows: Sequence[str] = (),
    ) -> None:
        self._tables = plan(config_file, grid, options)
        self._wanted = _wanted(self._tables, rows)
        self._output, self._share = output, share
        _refuse_other_data(output, {seed: str((roots or {}).get(seed, "")) for seed in seeds})
        self._command = [str(repository / training), "--config-file", config_file]
        self._shown = [training, "--config-file", _from(repository, config_file)]
        self._runs = runs_of(self._tables, seeds, output, roots or {})
        self._outcomes = {run: read_outcome(run) for run in self._runs}

    def listing(self) -> str:
        """Every run with its state, then the counts."""
        lines = [f"{self._outcomes[run].status:6s} {run.config.slug} seed {run.seed}" for run in self._runs]
        done = sum(outcome.status == "done" for outcome in self._outcomes.values())
        n_rows = sum(len(table.rows) for table in self._tables)
        counts = f"{len(self._tables)} tables, {n_rows} rows, {len(lines)} runs: {done} done, {len(lines) - done} left"
        return "\n".join([*lines, counts])

    def run(self, jobs: int) -> int:
        """Train what is left and write the tables after each run; the number of runs that failed."""
        asked = [run for run in self._runs if run.config in self._wanted]
        left = [run for run in asked if self._outcomes[run].status != "done"]
        print(f"{len(asked)} runs: {len(asked) - len(left)} done, {len(left)} left", flush=True)
        self._write()
        agenda = Agenda(left, self._runs, share=self._share)
        Runner(self._command, jobs).run_all(agenda, len(left), self._finished)
        from mgot.analysis.ablation.picture import draw_tables  # matplotlib takes half a second, which --list needs not

        draw_tables(self._output, self._described())
        return sum(outcome.status == "failed" for outcome in self._outcomes.values())

    def _finished(self, run: Run, outcome: Outcome) -> None:
        self._outcomes[run] = outcome
        self._write()
        said = outcome.error or " ".join(f"{name} {value:.3f}" for name, value in outcome.figures.items())
        print(f"{outcome.status}: {run.config.slug} seed {run.seed}: {said}", flush=True)

    def _write(self) -> None:
        write_tables(self._output, self._described())

    def _described(self) -> dict[str, Any]:
        """The rows that were asked for now, and those that have a run from another call."""
        known = {run.config for run, outcome in self._outcomes.items() if outcome.status != "left"} | self._wanted
        tables = [Table(t.title, tuple(row for row in t.rows if row.config in known)) for t in self._tables]
        return describe([table for table in tables if table.rows], self._runs, self._outcomes, self._shown)


def _wanted(tables: Sequence[Table], beginnings: Sequence[str]) -> set[Configuration]:
    """Configurations of the rows whose names begin so, in capitals or not; of all rows if nothing is asked for."""
    named = [(row.name, row.config) for table in tables for row in table.rows]
    for beginning in beginnings:
        if not any(name.lower().startswith(beginning.lower()) for name, _ in named):
            raise UserError(f"--row {beginning}: no row begins so; there are: {', '.join(name for name, _ in named)}")
    begins = tuple(beginning.lower() for beginning in beginnings)
    return {config for name, config in named if not begins or name.lower().startswith(begins)}


def _refuse_other_data(output: Path, roots: Mapping[int, str]) -> None:
    path = output / "table.json"
    try:
        before = parsed(path.read_bytes()) if path.is_file() else {"seeds": []}
        known = {seed: before.get("roots", {}).get(str(seed), "") for seed in set(before["seeds"]) & set(roots)}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged: remove it; it is written again from the runs beside it") from None
    for seed, had in known.items():
        if had != roots[seed]:
            raise UserError(
                f"--output {output} holds runs of seed {seed} on --roots {had or '(none)'}, not"
                f" {roots[seed] or '(none)'}: give the same, or choose another --output"
            )


def _from(repository: Path, path: str) -> str:
    """The path relative to the repository, if it is inside."""
    full = Path(path).resolve()
    return os.path.relpath(full, repository) if full.is_relative_to(repository.resolve()) else path
