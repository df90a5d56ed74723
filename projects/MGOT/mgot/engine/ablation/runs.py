"""The trainings of a grid: each a process and a folder of its own, side by side, skipped where finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgot.engine.ablation.grid import Configuration, Table
from mgot.progress import progress

_SECONDS_TO_END = 10.0


@dataclass(frozen=True)
class Run:
    """One training: a configuration, a seed and a folder."""

    config: Configuration
    seed: int
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What a training left.

    Attributes:
        status: "done", "failed", or "left" where it has not run to its end yet.
        figures: of the final row of the first protocol: rank1, mAP, and matching_accuracy of the last epoch's start.
        collapsed: the final Rank-1 is below the one before training, or an epoch gave a modality no cluster.
        error: the last line that a failed training wrote.
    """

    status: str
    figures: dict[str, float] = field(default_factory=dict)
    collapsed: bool = False
    error: str = ""


def runs_of(tables: Iterable[Table], seeds: Sequence[int], output: Path) -> list[Run]:
    """Each configuration's runs once, seed by seed, so that whole tables stand early."""
    configs = dict.fromkeys(row.config for table in tables for row in table.rows)
    return [Run(config, seed, output / config.slug / f"seed_{seed}") for seed in seeds for config in configs]


def read_outcome(run: Run) -> Outcome:
    """What the folder of a run holds; "left" where there is no final row in its results.json."""
    results = run.folder / "results.json"
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"] if results.is_file() else []
    final = next((row for row in rows if row["stage"] == "final"), None)
    if final is None:
        return Outcome("left")
    start = [row for row in rows if row["stage"] == "initial" and row["protocol"] == final["protocol"]]
    epochs = _epochs(run.folder / "metrics.json")
    figures = {"rank1": final["rank1"], "mAP": final["mAP"]}
    if epochs:
        figures["matching_accuracy"] = epochs[-1]["truth/matching_accuracy"]
    fell = any(final["rank1"] < row["rank1"] for row in start)
    unlabelled = any(line.get(f"{name}/labels_kept", 0) > 0 for line in epochs for name in ("visible", "infrared"))
    return Outcome("done", figures, fell or unlabelled)


def _epochs(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.json that describe an epoch's start; a line that a kill cut short is passed over."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "truth/matching_accuracy" in content:
            found.append(content)
    return found


class Runner:
    """Starts trainings and, where it is interrupted, ends them.

    Args:
        command: of one training, to which its options, SEED and OUTPUT_DIR are appended.
        jobs: trainings side by side; each gets an equal part of the cores.
    """

    def __init__(self, command: Sequence[str], jobs: int) -> None:
        self._command, self._jobs = list(command), jobs
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // jobs, 1))}
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run_all(self, runs: Sequence[Run], finished: Callable[[Run, Outcome], None]) -> None:
        """Train; ``finished`` is called in this thread after each run. An interrupt ends the children and is raised."""
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self._train, run): run for run in runs}
            try:
                for future in progress(as_completed(futures), "train", total=len(runs)):
                    finished(futures[future], future.result())
            except BaseException:
                for future in futures:
                    future.cancel()
                self._stop()
                raise

    def _train(self, run: Run) -> Outcome:
        run.folder.mkdir(parents=True, exist_ok=True)
        resume = ["--resume"] if (run.folder / "last_checkpoint").is_file() else []
        keys = [*run.config.options, "SEED", str(run.seed), "OUTPUT_DIR", str(run.folder)]
        log = run.folder / "train.log"
        with log.open("ab") as stream:
            with self._lock:
                if self._stopped:
                    return Outcome("left")
                process = subprocess.Popen(
                    [sys.executable, *self._command, *resume, *keys],
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,  # its own group: an interrupt reaches it, and its workers, through _stop
                )
                self._processes.add(process)
            status = process.wait()
        with self._lock:
            self._processes.discard(process)
        outcome = read_outcome(run)
        if status == 0 and outcome.status == "done":
            return outcome
        return Outcome("failed", error=_last_line(log) or f"ended with status {status}")

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            processes = list(self._processes)
        for how in (signal.SIGTERM, signal.SIGKILL):
            for process in processes:
                if process.poll() is None:
                    os.killpg(process.pid, how)
            for process in processes:
                try:
                    process.wait(_SECONDS_TO_END)
                except subprocess.TimeoutExpired:
                    continue


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
