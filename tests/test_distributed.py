"""Two processes on CPUs against one: the same global batches, so the same losses, memories and weights.

Batch statistics are of each process's own images and differ from one process's by nature, so the norms keep their
running statistics; augmentation is drawn by each process, so it is off. All else is the training as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from pickle import PicklingError
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgot.data.image_set import ImageSet
from mgot.data.items import INFRARED, VISIBLE, Item
from mgot.data.loaders import CrossModalityLoader, EpochLabels, build_ordered_loader
from mgot.distributed import average_buffers, gather_rows, on_main, start
from mgot.engine.hooks import GatherHook, MemoryUpdateHook
from mgot.errors import UserError

REPO = Path(__file__).resolve().parent.parent
Options = Callable[..., list[str]]
PATIENCE = 300  # seconds; a job that takes longer hangs


def run(folder: Path, options: list[str], *, processes: int, dying_epoch: int = -1) -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True, exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *torchrun, str(REPO / "tests/two_processes.py"), str(folder), str(dying_epoch), *options]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPO / 'projects/MGOT'}{os.pathsep}{REPO}",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.run(
        command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one(tiny_options: Options, tmp_path: Path) -> None:
    keys = ("MGOT.PRECISION", "float32", "MGOT.DEN.DROPOUT", 0.0, "MGOT.TEST.SYSU_MODES", ["all"])
    reports: dict[int, list[Any]] = {}
    for processes in (1, 2):
        folder = tmp_path / f"of{processes}"
        done = run(folder, tiny_options(*keys, "OUTPUT_DIR", folder), processes=processes)
        assert done.returncode == 0, done.stderr[-2000:]
        reports[processes] = [torch.load(folder / f"rank{rank}.pt") for rank in range(processes)]
    (alone,), (first, second) = reports[1], reports[2]
    assert len(alone["memories"]) == len(first["memories"]) == len(second["memories"]) == 4
    for one, mine, other in zip(alone["memories"], first["memories"], second["memories"], strict=True):
        assert one.keys() == mine.keys() == other.keys()
        for name in one:
            assert torch.equal(mine[name], other[name])
            # Convolutions round by the number of images on some CPUs, and steps make it grow.
            torch.testing.assert_close(mine[name], one[name], rtol=0, atol=2e-3)
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name])
    losses = [
        [(line["iteration"], name, line[name]) for line in metrics(tmp_path / f"of{n}") for name in sorted(line)
         if "loss" in name] for n in (1, 2)
    ]  # fmt: skip
    assert len(losses[0]) > 10
    for (iteration, name, value), (*key, found) in zip(*losses, strict=True):
        assert (key, found) == ([iteration, name], pytest.approx(value, rel=1e-3, abs=1e-3))
    assert sum(alone["extracted"]) == sum(first["extracted"]) + sum(second["extracted"])
    assert abs(sum(first["extracted"]) - sum(second["extracted"])) <= 2
    rows = [json.loads((tmp_path / f"of{n}/results.json").read_text())["rows"] for n in (1, 2)]
    assert [row["stage"] for row in rows[1]] == ["initial", "intra", "fittest", "final"]
    assert rows[1][0]["mAP"] == pytest.approx(rows[0][0]["mAP"], abs=1e-3)
    iterations = [line["iteration"] for line in metrics(tmp_path / "of2")]
    assert len(iterations) == len(set(iterations))


@pytest.mark.slow
def test_a_killed_process_ends_the_job(tiny_options: Options, tmp_path: Path) -> None:
    folder = tmp_path / "dies"
    done = run(folder, tiny_options("OUTPUT_DIR", folder), processes=2, dying_epoch=1)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr or "-9" in done.stderr
    assert not (folder / "rank0.pt").exists()


@pytest.mark.slow
def test_a_mistake_met_by_the_first_process_ends_all(tiny_options: Options, tmp_path: Path) -> None:
    folder = tmp_path / "mistaken"
    done = run(folder, tiny_options("OUTPUT_DIR", folder, "MGOT.CLUSTER.MIN_SAMPLES", 500), processes=2)
    assert done.returncode != 0
    assert done.stderr.count("the visible images form no cluster") >= 1


class _Steps:
    """A sampler of one step: four clusters of two images in each modality."""

    n_classes, n_instances, seed = 4, 2, 0

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        yield np.arange(8), np.arange(8, 16)

    def set_epoch(self, *unused: Any, **unused_too: Any) -> None: ...


def test_processes_share_a_batch_without_overlap_and_know_it_whole(tmp_path: Path) -> None:
    items = [Item(str(tmp_path / f"{n}.png"), 0, 1 if n < 8 else 3, VISIBLE if n < 8 else INFRARED) for n in range(16)]
    for n, item in enumerate(items):
        Image.new("RGB", (4, 8), (n, n, n)).save(item.path)
    labels = EpochLabels(np.repeat(np.arange(4), 2), np.repeat(np.arange(10, 14), 2))

    def batches(rank: int, world_size: int) -> dict[str, Any]:
        loader = CrossModalityLoader(
            items[:8], items[8:], (8, 4), _Steps(), lambda v, r, g: torch.cat([v, v, r]),  # type: ignore[arg-type]
            device=torch.device("cpu"), rank=rank, world_size=world_size,
        )  # fmt: skip
        loader.set_epoch(0, labels)
        return next(iter(loader))

    alone, parts = batches(0, 1), [batches(rank, 2) for rank in (0, 1)]
    assert "whole" not in alone
    for name in ("images", "targets", "is_visible"):
        gathered = torch.cat([part[name] for part in parts])
        assert torch.equal(gathered[parts[0]["whole"].order], alone[name])
    for part in parts:
        assert torch.equal(part["whole"].targets, alone["targets"])
        assert torch.equal(part["whole"].is_visible, alone["is_visible"])
    with pytest.raises(UserError, match="4 pseudo classes per batch, which cannot be divided among 3 processes"):
        batches(0, 3)


def test_one_process_needs_no_other() -> None:
    rows = torch.eye(3)
    assert gather_rows(rows) is rows
    assert on_main(lambda: 7) == 7
    model = torch.nn.BatchNorm1d(2)
    average_buffers(model)
    assert torch.equal(model.running_var, torch.ones(2))  # type: ignore[arg-type]


def pretend(monkeypatch: pytest.MonkeyPatch, *, first: bool, other: Any = None) -> list[Any]:
    """Make this process one of two; what the first sends is gathered, and the second receives ``other``."""
    sent: list[Any] = []

    def broadcast(objects: list[Any], **unused: Any) -> None:
        sent.append(objects[0])
        objects[0] = objects[0] if first else other

    monkeypatch.setattr("mgot.distributed.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("mgot.distributed.comm.is_main_process", lambda: first)
    monkeypatch.setattr("mgot.distributed.comm._get_global_gloo_group", lambda: None)
    monkeypatch.setattr("mgot.distributed.dist.broadcast_object_list", broadcast)
    return sent


class _Bound(Exception):
    """Holds what cannot be sent."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.held = lambda: what


class _Wordy(UserError):
    """Is sent, and cannot be put together again."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")


FAILURES: dict[str, tuple[Exception, type[Exception], str]] = {
    "plain": (KeyError("a"), KeyError, "'a'"),
    "a user's": (UserError("mend it"), UserError, "mend it"),
    "not to be sent": (_Bound("so it is"), RuntimeError, "_Bound: so it is"),
    "not to be read": (_Wordy("so", "do this"), UserError, "so: do this"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_the_first_process_never_leaves_the_others_waiting(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, kind, text = FAILURES[what]

    def fail() -> None:
        raise error

    with monkeypatch.context() as patched:
        sent = pretend(patched, first=True)
        with pytest.raises(type(error)) as met:
            on_main(fail)
    assert met.value is error and len(sent) == 1
    pretend(monkeypatch, first=False, other=sent[0])
    with pytest.raises(kind) as told:
        on_main(fail)
    assert type(told.value) is kind and str(told.value) == text


def test_a_result_reaches_all_and_one_that_cannot_be_sent_fails_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def result() -> Any:
        return given

    for given, fine in (([1, 2], True), (lambda: 0, False)):
        with monkeypatch.context() as patched:
            sent = pretend(patched, first=True)
            with nullcontext() if fine else pytest.raises((AttributeError, PicklingError)):
                assert on_main(result, send=lambda each: each) is given
        with monkeypatch.context() as patched:
            pretend(patched, first=False, other=sent[0])
            with nullcontext() if fine else pytest.raises((AttributeError, PicklingError)):
                assert on_main(result) == given


def test_running_statistics_become_the_processes_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.BatchNorm1d(2)
    model(torch.tensor([[0.0, 4.0], [2.0, 8.0]]))
    other = torch.tensor([3.0, 1.0])
    mine = model.running_mean.clone(), model.running_var.clone()  # type: ignore[union-attr]
    monkeypatch.setattr("mgot.distributed.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("mgot.distributed.dist.all_reduce", lambda buffer: buffer.add_(other))
    average_buffers(model)
    torch.testing.assert_close(model.running_mean, (mine[0] + other) / 2)
    torch.testing.assert_close(model.running_var, (mine[1] + other) / 2)
    assert int(model.num_batches_tracked) == 1  # type: ignore[arg-type]


def test_the_epochs_end_averages_the_running_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("mgot.engine.hooks.average_buffers", seen.append)
    hook = GatherHook()
    hook.trainer = SimpleNamespace(network="network", write_losses=lambda: seen.append("losses"))
    hook.after_epoch()
    assert seen == ["network", "losses"]


def test_a_step_moves_the_memories_once() -> None:
    given: list[Any] = []
    hook = MemoryUpdateHook()
    bank = SimpleNamespace(update=lambda *step: given.append(step))
    hook.trainer = SimpleNamespace(state=SimpleNamespace(bank=bank, step=(1, 2, 3, 4)))
    hook.after_step()
    hook.after_step()
    assert given == [(1, 2, 3, 4)]


def test_memory_is_pinned_for_a_gpu_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 8)).save(tmp_path / "0.png")
    images = ImageSet([Item(str(tmp_path / "0.png"), 0, 1, VISIBLE)], (8, 4))
    for device, available, pinned in (("cuda", True, True), ("cuda:1", True, True), ("cpu", True, False),
                                      ("cuda", False, False)):  # fmt: skip
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert build_ordered_loader(images, 1, 0, device=device).pin_memory is pinned


def test_too_many_gpus_point_to_torchrun() -> None:
    from fastreid.engine import default_argument_parser

    args = default_argument_parser().parse_args(["--num-gpus", "99"])
    with pytest.raises(UserError, match="torchrun --nproc-per-node 99"):
        start(lambda args: None, args)
