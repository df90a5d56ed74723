"""Two processes of which one dies, is stopped, hangs, raises or finds no room: the job ends, and resumes to the bit.

Norms and augmentation are as they are in a training. kill_processes.py is the long form of the kills.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import mgot.engine.hooks as hooks_module
from mgot import distributed
from mgot.engine.resume import checkpoint, signals
from mgot.engine.resume.snapshot import pack_process, restore_process
from mgot.engine.trainer import MGOTTrainer
from mgot.errors import UserError
from tests.conftest import write_coloured_people
from tests.kill_processes import Harm, Job, completed, require_same
from tests.kill_training import require_readable
from tests.test_saving import full_disk

pytestmark = pytest.mark.slow


@pytest.fixture(name="root", scope="module")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of a few people, and of a training that nothing befell, "straight"."""
    root = tmp_path_factory.mktemp("processes")
    write_coloured_people(root, n_train=6, n_test=2, per_camera=4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FASTREID_DATASETS", str(root))
        patched.setenv("CUDA_VISIBLE_DEVICES", "")
        completed(root / "straight", lambda rank: write_statistics_down(root / f"statistics{rank}.pt"))
        yield root


def write_statistics_down(path: Path) -> None:
    """Running statistics before and after the processes agree on them, at the end of the last epoch."""
    average = hooks_module.average_buffers

    def averaged(model: nn.Module) -> None:
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        average(model)
        torch.save((before, dict(model.named_buffers())), path)

    hooks_module.average_buffers = averaged  # type: ignore[assignment]


def at_step(epoch: int, step: int, act: Callable[[int], None]) -> Harm:
    """Each process calls ``act`` with its rank before that step of that epoch."""

    def harm(rank: int) -> None:
        run_step = MGOTTrainer.run_step
        signals._AGREE_EVERY = 1

        def acting(self: MGOTTrainer) -> None:
            if (self.epoch, self.iter % self.iters_per_epoch) == (epoch, step):
                act(rank)
            run_step(self)

        MGOTTrainer.run_step = acting  # type: ignore[method-assign]

    return harm


def ended(output: Path, harm: Harm) -> Job:
    job = Job(output, harm)
    job.end()
    return job


def test_processes_agree_on_the_running_statistics_of_batches_of_their_own(root: Path) -> None:
    (before, after), (other_before, other_after) = (torch.load(root / f"statistics{rank}.pt") for rank in range(2))
    names = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert len(names) > 10
    for name in names:
        assert not torch.equal(before[name], other_before[name])
        torch.testing.assert_close(after[name], (before[name] + other_before[name]) / 2)
        assert torch.equal(after[name], other_after[name])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_job_and_the_run_goes_on(root: Path, rank: int) -> None:
    output = root / f"killed_{rank}"
    job = Job(output)
    job.end(lambda: (output / "model_0000.pth").exists())
    time.sleep(random.Random(rank).uniform(0, 0.5))
    job.kill(rank)
    job.end()
    assert job.status == {rank: -signal.SIGKILL, 1 - rank: 2}
    assert "another process of the job ended" in job.said(1 - rank) and "Traceback" not in job.said(1 - rank)
    assert require_readable(output) >= (1, 0)
    require_same(completed(output), root / "straight")


@pytest.mark.parametrize("ranks", [(0,), (1,), (0, 1)])
def test_a_signal_to_one_process_or_to_all_stops_all_at_a_step(root: Path, ranks: tuple[int, ...]) -> None:
    output = root / f"signalled_{ranks}"
    job = ended(output, at_step(1, 1, lambda rank: os.kill(os.getpid(), signal.SIGTERM) if rank in ranks else None))
    assert job.status == {0: 143, 1: 143}, job.said(0) + job.said(1)
    assert require_readable(output) == (1, 2)
    require_same(completed(output), root / "straight")


class Bound(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("so it is")
        self.held = lambda: None


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_raises_what_cannot_be_sent_ends_the_job(root: Path, rank: int) -> None:
    def act(mine: int) -> None:
        if mine == rank:
            raise Bound

    job = ended(root / f"raises_{rank}", at_step(1, 1, act))
    assert job.status == {rank: 1, 1 - rank: 2}
    assert "Bound: so it is" in job.said(rank) and "another process of the job ended" in job.said(1 - rank)


def test_what_the_first_process_raises_while_the_others_wait_reaches_them(root: Path) -> None:
    def harm(rank: int) -> None:
        def refuse(*args: Any) -> None:
            raise Bound

        hooks_module.label_epoch = refuse  # type: ignore[assignment]

    job = ended(root / "labels", harm)
    assert job.status == {0: 1, 1: 1}
    assert "RuntimeError: Bound: so it is" in job.said(1)


def test_a_process_that_hangs_is_given_up_after_the_timeout(root: Path) -> None:
    output = root / "hangs"

    stop = at_step(1, 1, lambda rank: os.kill(os.getpid(), signal.SIGSTOP) if rank == 1 else None)
    job = Job(output, stop, "MGOT.TIMEOUT", "0.05")
    with pytest.raises(AssertionError, match=r"ranks \[0\] ended, the others wait"):  # torchrun would end it
        job.end(patience=1)
    assert job.status == {0: 2, 1: -signal.SIGKILL}
    assert "gave no answer within MGOT.TIMEOUT" in job.said(0) and "Traceback" not in job.said(0)
    assert require_readable(output) >= (1, 0)


def test_a_disk_without_room_on_the_first_process_ends_the_job_and_the_run_goes_on(root: Path) -> None:
    output = root / "full"

    def fill(rank: int) -> None:
        if rank == 0:
            checkpoint._save_atomically = full_disk

    job = ended(output, at_step(1, 2, fill))
    assert job.status[0] == 2 and job.status[1] in (0, 2), job.said(0) + job.said(1)
    assert "model_final.pth could not be written: make room" in job.said(0)
    assert "Traceback" not in job.said(0) + job.said(1)
    assert require_readable(output) == (1, 0)
    require_same(completed(output), root / "straight")


def test_each_process_takes_up_its_own_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = [nn.BatchNorm1d(2) for _ in range(2)]
    monkeypatch.setattr("mgot.engine.resume.snapshot.comm.get_world_size", lambda: 2)
    for rank, norm in enumerate(norms):
        norm(torch.randn(4, 2, generator=torch.Generator().manual_seed(rank)))
    packed = [pack_process(norm) for norm in norms]
    for rank, norm in enumerate(norms):
        monkeypatch.setattr("mgot.engine.resume.snapshot.comm.get_rank", lambda rank=rank: rank)
        other = nn.BatchNorm1d(2)
        restore_process(packed, other)
        assert torch.equal(other.running_mean, norm.running_mean)  # type: ignore[arg-type]
    assert not torch.equal(norms[0].running_mean, norms[1].running_mean)  # type: ignore[arg-type]


def test_only_a_lost_process_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgot.distributed.dist", SimpleNamespace(DistError=KeyError, get_rank=lambda: 1))
    told = r"process 1: another process .*Connection closed by peer.*--resume"
    with pytest.raises(UserError, match=told), distributed._losses_told():
        raise RuntimeError("[/third_party/gloo/pair.cc:534] Connection closed by peer [::1]:5\nmore")
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"), distributed._losses_told():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
