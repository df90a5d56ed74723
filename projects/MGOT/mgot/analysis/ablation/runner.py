"""Trainings as processes of their own, side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mgot.analysis.ablation.agenda import Agenda
from mgot.analysis.ablation.runs import Outcome, Run, read_outcome
from mgot.engine.resume.output import traces_of_a_run
from mgot.progress import progress

_SECONDS_TO_END = 10.0


class Runner:
    """Starts trainings. If it is interrupted, it stops them.

    Args:
        command: of one training, to which its options, SEED and OUTPUT_DIR are appended.
        jobs: trainings side by side; each gets an equal part of the cores, or OMP_NUM_THREADS where that is set.
    """

    def __init__(self, command: Sequence[str], jobs: int) -> None:
        self._command, self._jobs = list(command), jobs
        self._environment = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // jobs, 1)), **os.environ}
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run_all(self, agenda: Agenda, count: int, finished: Callable[[Run, Outcome], None]) -> None:
        """Train the ``count`` runs of an agenda. ``finished`` is called in this thread after each run.

        An interrupt stops the child processes and is raised.
        """
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = [pool.submit(self._next, agenda) for _ in range(count)]
            try:
                for future in progress(as_completed(futures), "train", total=count):
                    finished(*future.result())
            except BaseException:
                for future in futures:
                    future.cancel()
                agenda.stop()
                self._stop()
                raise

    def _next(self, agenda: Agenda) -> tuple[Run, Outcome]:
        run, donor = agenda.take()
        try:
            return run, self._train(run, donor)
        finally:
            agenda.ended(run)

    def _train(self, run: Run, donor: Path | None) -> Outcome:
        run.folder.mkdir(parents=True, exist_ok=True)
        # Without a checkpoint, --resume starts from scratch. What an earlier start wrote belongs to the same run.
        resume = ["--resume"] if traces_of_a_run(run.folder) else []
        begin = ["MGOT.CROSS_STAGE.FROM", str(donor)] if donor else []
        keys = [*run.config.options, *begin, "SEED", str(run.seed), "OUTPUT_DIR", str(run.folder)]
        log = run.folder / "train.log"
        root = {"FASTREID_DATASETS": str(run.root)} if run.root else {}
        with log.open("ab") as stream:
            with self._lock:
                if self._stopped:
                    return Outcome("left")
                process = subprocess.Popen(
                    [sys.executable, *self._command, *resume, *keys],
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env={**self._environment, **root},
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
