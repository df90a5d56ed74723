#!/usr/bin/env python3
"""Trainings of two processes in which one is killed again and again, resumed each time, and compared with one unharmed.

The parent imports everything and forks both processes of each attempt, so that an attempt costs no start. It stands in
for torchrun, but for ending the other process at once: that one must end by itself. test_processes has the short forms.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.utils.tensorboard

from mgot.command import launch
from mgot.engine.resume.checkpoint import load_tensors
from tests.conftest import write_coloured_people
from tests.kill_training import REPO, finished, keys, losses, require_readable

WORLD = 2
PATIENCE = 60.0  # seconds in which the processes must end once one of them has
Harm = Callable[[int], None]
"""Called in each process before it begins, with its rank."""


def options(output: Path) -> list[str]:
    """A training of three epochs of three steps with both stages, norms and augmentation as they are."""
    pairs = ("SOLVER.MAX_EPOCH", 3, "MGOT.ITERS_PER_EPOCH", 3, "MGOT.TEST.STAGES", ["final"])
    return [*keys(output), *(str(part) for part in pairs)]


class Job:
    """The processes of one attempt.

    Args:
        output: OUTPUT_DIR; each process's words go to a file beside it.
        harm: what is done to each process before it begins.
        extra: KEY VALUE pairs beside :func:`options`.
    """

    def __init__(self, output: Path, harm: Harm = lambda rank: None, *extra: str) -> None:
        self._output, self._extra, self.status = output, extra, dict[int, int]()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(WORLD):
            self._log(rank).write_text("")
        self.children = [self._fork(rank, port, harm) for rank in range(WORLD)]

    def _log(self, rank: int) -> Path:
        return self._output.with_name(f"{self._output.name}_rank{rank}.log")

    def said(self, rank: int) -> str:
        """What a process has said so far."""
        return self._log(rank).read_text()

    def _fork(self, rank: int, port: int, harm: Harm) -> int:
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            sys.stdout = sys.stderr = log = self._log(rank).open("a", buffering=1)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORLD, "LOCAL_WORLD_SIZE": WORLD}
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
            os.environ.update({name: str(value) for name, value in {**place, **where}.items()})
            harm(rank)
            demo = str(REPO / "projects/MGOT/configs/demo.yml")
            status = launch(["--config-file", demo, "--resume", *options(self._output), *self._extra])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process that has not ended."""
        if rank not in self.status:
            os.kill(self.children[rank], number)

    def running(self) -> bool:
        """Whether any process has not ended."""
        for rank, child in enumerate(self.children):
            if rank not in self.status:
                status = finished(child)
                if status is not None:
                    self.status[rank] = status
        return len(self.status) < WORLD

    def end(self, stop: Callable[[], bool] | None = None, patience: float = PATIENCE) -> float:
        """Wait until ``stop`` says so or a process has ended, then until all have; the seconds of the second wait.

        Raises:
            AssertionError: the others did not end in time.
        """
        while self.running() and not self.status and not (stop and stop()):
            time.sleep(0.001 if stop else 0.02)  # a save takes some thousandths of a second
        begin = time.perf_counter()
        while self.running() and self.status and time.perf_counter() < begin + patience:
            time.sleep(0.01)
        if self.status and self.running():
            ended = sorted(self.status)
            self.give_up()
            raise AssertionError(f"ranks {ended} ended, the others wait: {self.said(0)}{self.said(1)}")
        return time.perf_counter() - begin

    def give_up(self) -> None:
        """End whatever runs."""
        while self.running():
            for rank in range(WORLD):
                self.kill(rank)
            time.sleep(0.01)


def completed(output: Path, harm: Harm = lambda rank: None) -> Path:
    """A training that runs to its end, from the newest checkpoint of the folder."""
    job = Job(output, harm)
    job.end()
    assert job.status == {0: 0, 1: 0}, job.said(0) + job.said(1)
    return output


def require_same(output: Path, straight: Path) -> None:
    """AssertionError where losses, weights, running statistics or optimiser differ in any bit."""
    lines = [losses(folder) for folder in (output, straight)]
    assert lines[0] == lines[1] and lines[0]
    found, expected = (load_tensors(folder / "model_final.pth") for folder in (output, straight))
    other = [name for name, value in expected["model"].items() if not torch.equal(found["model"][name], value)]
    assert not other, f"{len(other)} of {len(expected['model'])} tensors differ, {other[0]} first"
    moments = [content["optimizer"]["state"] for content in (found, expected)]
    assert all(torch.equal(moments[0][n]["exp_avg"], each["exp_avg"]) for n, each in moments[1].items())


def moment(generator: random.Random, output: Path, seconds: float) -> tuple[str, Callable[[], bool]]:
    """When to kill, in words and as a test: at any moment of a run, or while a checkpoint is being written."""
    begin = time.perf_counter()
    if generator.random() < 0.6:
        at = generator.uniform(0, seconds)
        return f"after {at:.1f} s", lambda: time.perf_counter() > begin + at
    save = generator.randrange(3)
    seen: set[str] = set()

    def during_a_save() -> bool:
        seen.update(path.name for path in output.glob("model_*.pth.*.tmp"))
        return len(seen) > save

    return f"during save {save}", during_a_save


def torment(root: Path, kills: int, seed: int, deadline: float = float("inf")) -> dict[str, float]:
    """Kill one process at a random moment, see the other end, resume, and so on; counts.

    Raises:
        AssertionError: a process went on waiting, a checkpoint is unreadable, progress was lost, or the end is another.
    """
    generator = random.Random(seed)
    begin = time.perf_counter()
    straight = completed(root / "straight")
    seconds = time.perf_counter() - begin
    counts = {"kills": 0, "kills_of_rank_0": 0, "kills_during_a_save": 0, "runs_completed": 0, "longest_wait": 0.0}
    run, before = 0, (0, 0)
    while counts["kills"] < kills and time.time() < deadline:
        output = root / f"run_{run}"
        rank = generator.randrange(WORLD)
        words, stop = moment(generator, output, seconds)
        job = Job(output)
        job.end(stop)
        if not job.status:
            job.kill(rank)
            saving = any(output.glob("*.pth.*.tmp"))
            wait = job.end()
            counts["kills"] += 1
            counts["kills_of_rank_0"] += rank == 0
            counts["kills_during_a_save"] += saving
            counts["longest_wait"] = round(max(counts["longest_wait"], wait), 2)
            now = require_readable(output)
            told = {"rank": rank, "moment": words, "other_ended_after_s": round(wait, 2), "status": job.status}
            print(json.dumps({**told, "said": job.said(1 - rank).strip()[-200:], "checkpoint": now}), flush=True)
            assert now >= before, f"progress fell from {before} to {now}"
            before = now
            continue
        assert job.status == {0: 0, 1: 0}, job.said(0) + job.said(1)
        require_same(output, straight)
        counts["runs_completed"] += 1
        print(json.dumps({"completed": output.name}), flush=True)
        run, before = run + 1, (0, 0)
    require_same(completed(root / f"run_{run}"), straight)
    return {**counts, "runs_completed": counts["runs_completed"] + 1, "seconds_of_a_run": round(seconds, 2)}


def main() -> int:
    """Run as often as asked and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no attempt after so many")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_coloured_people(Path(folder), n_train=6, n_test=2, per_camera=4)
        os.environ.update(FASTREID_DATASETS=folder, CUDA_VISIBLE_DEVICES="")
        print(json.dumps(torment(Path(folder), args.kills, args.seed, time.time() + 60 * args.minutes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
