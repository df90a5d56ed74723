#!/usr/bin/env python3
"""Kill a tiny training again and again, resume it each time, and see that nothing but the running epoch is lost.

One process imports everything and forks a child an attempt, so that a kill costs a second. After each kill every
checkpoint must be readable and no progress lost; at the end the figures must be those of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.utils.tensorboard

from mgot.engine.resume.checkpoint import by_progress, checkpoint_files
from mgot.engine.run import train
from mgot.engine.setup import load_config
from tests.conftest import write_coloured_people

REPO = Path(__file__).resolve().parent.parent
EPOCHS, STEPS = 4, 2


def keys(output: Path) -> list[str]:
    """KEY VALUE overrides that make demo.yml the shortest training that still has both stages."""
    pairs: tuple[object, ...] = (
        "MODEL.BACKBONE.PRETRAIN", False, "INPUT.SIZE_TRAIN", [32, 16], "INPUT.SIZE_TEST", [32, 16],
        "SOLVER.MAX_EPOCH", EPOCHS, "MGOT.CROSS_START_EPOCH", 1, "MGOT.ITERS_PER_EPOCH", STEPS,
        "SOLVER.IMS_PER_BATCH", 16, "DATALOADER.NUM_INSTANCE", 2, "MGOT.CLUSTER.K1", 6, "MGOT.CLUSTER.K2", 2,
        "MGOT.TEST.TRIALS", 1, "MGOT.TEST.SYSU_MODES", ["all"], "TEST.FLIP.ENABLED", False, "MGOT.DIAGNOSTICS", False,
        "MGOT.LOSS.W_ADV", 1.0, "SEED", 0, "OUTPUT_DIR", output,
    )  # fmt: skip
    return [str(part) for part in pairs]


def start(output: Path) -> int:
    """Fork a child that trains, resuming what is there; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        sys.stdout = sys.stderr = log = (output.parent / "child.log").open("a", buffering=1)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        cfg = load_config(str(REPO / "projects/MGOT/configs/demo.yml"), keys(output), resume=True)
        torch.manual_seed(cfg.SEED)
        train(cfg, resume=True)
        status = 0
    except BaseException:
        traceback.print_exc()  # into child.log, which the assertion quotes
    finally:
        os._exit(status)


def finished(child: int) -> int | None:
    """Exit status of a child that ended (negative: by a signal), None while it runs."""
    done, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def run_until(child: int, stop: Callable[[], bool]) -> int | None:
    """Wait until the child ends, and give its exit status, or until ``stop`` says so, and kill it."""
    while True:
        status = finished(child)
        if status is not None:
            return status
        if stop():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.0003)


def require_readable(output: Path) -> tuple[int, int]:
    """(epochs, steps) of the newest checkpoint; AssertionError if one cannot be read."""
    readable, skipped = by_progress(output)
    assert not skipped and len(readable) == len(checkpoint_files(output)), f"unreadable: {skipped}"
    return readable[0][0] if readable else (0, 0)


def progress_in(output: Path) -> tuple[int, int]:
    """As :func:`require_readable`; AssertionError too if an epoch was logged more than one ahead of the checkpoints."""
    newest = require_readable(output)
    logged = max((int(line["iteration"]) // STEPS for line in metrics(output) if "total_loss" in line), default=-1)
    assert logged <= newest[0], f"epoch {logged} is logged, the newest checkpoint says {newest}"
    return newest


def metrics(output: Path) -> list[dict[str, float]]:
    """Lines of metrics.json; a last one that a kill cut short is left out."""
    path = output / "metrics.json"
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def losses(output: Path) -> dict[int, float]:
    """Iteration -> total loss of each epoch's end; every figure of the run must be finite."""
    lines = metrics(output)
    assert all(math.isfinite(value) for line in lines for value in line.values())
    return {int(line["iteration"]): line["total_loss"] for line in lines if "total_loss" in line}


def stopper(generator: random.Random, output: Path, seconds: float) -> Callable[[], bool]:
    """When to kill: half of the times at any moment of a run, half of them while a checkpoint is being written."""
    begin = time.perf_counter()
    if generator.random() < 0.5:
        moment = begin + generator.uniform(0, seconds)
        return lambda: time.perf_counter() > moment
    save, delay = generator.randrange(EPOCHS), generator.uniform(0, 0.004)
    seen: list[tuple[str, float]] = []

    def during_a_save() -> bool:
        names = {path.name for path in output.glob("model_*.pth.*.tmp")}
        seen.extend((name, time.perf_counter()) for name in names if name not in dict(seen))
        return len(seen) > save and time.perf_counter() > seen[-1][1] + delay

    return during_a_save


def torment(root: Path, kills: int, seed: int) -> dict[str, float]:
    """Kill and resume; counts, and the seconds of a whole run.

    Raises:
        AssertionError: a state was unreadable, progress was lost, or the figures are not those of an unbroken run.
    """
    generator = random.Random(seed)
    straight = root / "straight"
    begin = time.perf_counter()
    assert run_until(start(straight), lambda: False) == 0, (root / "child.log").read_text()[-2000:]
    seconds, expected = time.perf_counter() - begin, losses(straight)
    assert len(expected) == EPOCHS
    counts = {"kills": 0, "kills_during_a_save": 0, "runs_completed": 0}
    run, before = 0, (0, 0)
    while counts["kills"] < kills:
        output = root / f"run_{run}"
        status = run_until(start(output), stopper(generator, output, seconds))
        if status is not None:
            assert status == 0, (root / "child.log").read_text()[-2000:]
            assert losses(output) == expected, f"{losses(output)} is not {expected}"
            counts["runs_completed"] += 1
            run, before = run + 1, (0, 0)
            continue
        counts["kills"] += 1
        counts["kills_during_a_save"] += any(output.glob("*.pth.*.tmp"))
        now = progress_in(output)
        assert now >= before, f"progress fell from {before} to {now}"
        before = now
        if counts["kills"] % 20 == 0:
            print(json.dumps(counts), flush=True)
    output = root / f"run_{run}"
    assert run_until(start(output), lambda: False) == 0, (root / "child.log").read_text()[-2000:]
    assert losses(output) == expected and not list(output.glob("*.tmp"))
    return {**counts, "runs_completed": counts["runs_completed"] + 1, "seconds_of_a_run": round(seconds, 2)}


def main() -> int:
    """Run as often as asked and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_coloured_people(Path(folder), n_train=6, n_test=2, per_camera=4)
        os.environ["FASTREID_DATASETS"] = folder
        print(json.dumps(torment(Path(folder), args.kills, args.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
