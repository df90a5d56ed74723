"""One call of tools/ablate.py: plan, what is left of it, and tables after each run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mgot.engine.ablation.grid import plan
from mgot.engine.ablation.runs import Outcome, Run, Runner, read_outcome, runs_of
from mgot.engine.ablation.tables import describe, write_tables


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

    Raises:
        UserError: a mistake in the grid or the options.
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
    ) -> None:
        self._tables = plan(config_file, grid, options)
        self._output = output
        self._command = [str(repository / training), "--config-file", config_file]
        self._shown = [training, "--config-file", _from(repository, config_file)]
        self._runs = runs_of(self._tables, seeds, output)
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
        left = [run for run in self._runs if self._outcomes[run].status != "done"]
        print(f"{len(self._runs)} runs: {len(self._runs) - len(left)} done, {len(left)} left", flush=True)
        self._write()
        Runner(self._command, jobs).run_all(left, self._finished)
        return sum(outcome.status == "failed" for outcome in self._outcomes.values())

    def _finished(self, run: Run, outcome: Outcome) -> None:
        self._outcomes[run] = outcome
        self._write()
        said = outcome.error or " ".join(f"{name} {value:.3f}" for name, value in outcome.figures.items())
        print(f"{outcome.status}: {run.config.slug} seed {run.seed}: {said}", flush=True)

    def _write(self) -> None:
        write_tables(self._output, describe(self._tables, self._runs, self._outcomes, self._shown))


def _from(repository: Path, path: str) -> str:
    """The path as one types it in the repository, where it lies there."""
    full = Path(path).resolve()
    return os.path.relpath(full, repository) if full.is_relative_to(repository.resolve()) else path
