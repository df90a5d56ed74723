"""What is written to disk: a save that finds no room, and a log that is cut where a run goes on."""

from __future__ import annotations

import errno
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.engine.resume.output import trim_metrics
from mgot.engine.resume.saving import CheckpointHook
from mgot.engine.resume.snapshot import random_states, restore_random_states
from mgot.files import replacing, write_atomically


def full_disk(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class FullDisk:
    """A stream that takes so many bytes and no more, as a full disk does."""

    def __init__(self, stream: Any, room: int) -> None:
        self._stream, self._room = stream, room

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, content: Any) -> int:
        self._room -= len(content)
        if self._room < 0:
            full_disk()
        return self._stream.write(content)


def test_a_disk_that_fills_up_during_a_save_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torch.nn.Linear(100, 100)
    saver = AtomicCheckpointer(model, str(tmp_path), keep=1, optimizer=torch.optim.Adam(model.parameters()))
    saver.save("model_0000", epoch=0, step=0)
    before = (tmp_path / "model_0000.pth").read_bytes()
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode: FullDisk(opened(self, *mode), 20_000))
    with pytest.raises(OSError, match="No space left on device"):
        saver.save("model_0001", epoch=1, step=0)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_0000.pth"]
    assert (tmp_path / "model_0000.pth").read_bytes() == before
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000.pth"


def test_two_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    path, plain = tmp_path / "model.pth", tmp_path / "plain"
    with replacing(path) as one:
        one.write(b"11")
        with replacing(path) as other:
            other.write(b"2")
        assert path.read_bytes() == b"2"
        one.write(b"11")
    plain.touch()
    assert path.read_bytes() == b"1111" and path.stat().st_mode == plain.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [path, plain]


def test_names_of_any_length_and_names_that_are_no_text_are_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    write_atomically(path, "bad \udcff.png é")
    assert path.read_bytes() == b"bad \\udcff.png " + "é".encode()


def test_metrics_are_cut_where_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 1}\nnothing\n[]\n{"iteration": 2}\n{"a": 1}\n{"iteration": 0, "lo')
    trim_metrics(path, 2)
    assert path.read_text() == '{"iteration": 1}\n'
    trim_metrics(tmp_path / "none.json", 2)


def test_every_generator_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    state, put = torch.arange(4, dtype=torch.uint8), list[torch.Tensor]()
    answers: dict[str, Any] = {"is_available": True, "device_count": 1, "get_rng_state_all": [state]}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put.extend)

    def drawn() -> list[float]:
        return [random.random(), np.random.random(), float(torch.rand(()))]  # noqa: NPY002

    states = random_states()
    first = drawn()
    restore_random_states(states)
    assert drawn() == first and len(put) == 1 and torch.equal(put[0], state)


def test_checkpoints_come_at_each_periods_end_and_at_those_of_stage_and_run() -> None:
    saved: list[str] = []

    def save(name: str, epoch: int) -> bool:
        saved.append(name)
        return True

    hook = CheckpointHook(3, intra=2)
    for epoch in range(7):
        hook.trainer = SimpleNamespace(epoch=epoch, max_epoch=7, save_checkpoint=save)
        hook.after_epoch()
    assert saved == ["model_intra", "model_0002", "model_0005", "model_final"]
