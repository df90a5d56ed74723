"""A run that is refused leaves OUTPUT_DIR as it found it."""

from __future__ import annotations

import argparse
import errno
import fcntl
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tools.ablate import main as ablate

from mgot import files
from mgot.engine.resume.output import claim_folder, unless_refused
from mgot.engine.run import evaluate, train
from mgot.engine.setup import setup as set_up  # pytest before 8 calls a module's `setup` by itself
from mgot.errors import UserError
from mgot.files import hold_folder, release_folder, write_atomically

DEMO = str(Path(__file__).resolve().parent.parent / "projects/MGOT/configs/demo.yml")
Options = Callable[..., list[str]]
WRONG = ("MODEL.BACKBONE.FEAT_DIM", 99)  # what only the building of the model tells


@pytest.fixture(autouse=True)
def fixture_logging() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("mgot", "fastreid")]
    before = [(each, each.propagate, each.level, list(each.handlers)) for each in loggers]
    yield
    for each, propagate, level, handlers in before:
        each.propagate, each.handlers = propagate, handlers
        each.setLevel(level)


@pytest.fixture(autouse=True)
def fixture_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.0)


def begin(options: list[str], *, resume: bool = False, eval_only: bool = False) -> None:
    """As tools/train_net.py does."""
    args = argparse.Namespace(config_file=DEMO, opts=options, resume=resume, eval_only=eval_only)
    cfg = set_up(args)
    if eval_only:
        evaluate(cfg)
    else:
        train(cfg, resume=resume)


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_folders_that_were_not_there_are_not_there_afterwards(tiny_options: Options, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"FEAT_DIM is 99"):
        begin(tiny_options(*WRONG, "OUTPUT_DIR", tmp_path / "logs/deep/run"))
    with pytest.raises(UserError, match=r"--eval-only needs a checkpoint"):
        begin(tiny_options("OUTPUT_DIR", tmp_path / "logs/deep/run"), eval_only=True)
    assert below(tmp_path) == []


def test_a_test_set_that_cannot_be_scored_is_met_before_the_training(tiny_options: Options, tmp_path: Path) -> None:
    last = ("MGOT.TEST.STAGES", ["final"])
    with pytest.raises(UserError, match=r"no data set named 'Foo' is registered"):
        begin(tiny_options(*last, "DATASETS.TESTS", "('Foo',)"))
    with pytest.raises(UserError, match=r"rand_perm_cam.mat is missing"):
        begin(tiny_options(*last, "MGOT.TEST.DRAWS", "official"))
    assert below(tmp_path) == []


@pytest.mark.parametrize("mode", ["overwrite", "resume", "eval_only"])
def test_another_run_keeps_its_config_and_log(mode: str, tiny_options: Options, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "log.txt", "results.json"):
        (folder / name).write_text(f'{{"rows": [], "name": "{name}"}}\n')
    before = {path: path.read_bytes() for path in folder.iterdir()}
    keys = ("MGOT.OVERWRITE", mode == "overwrite", *(() if mode == "eval_only" else WRONG))
    with pytest.raises(UserError):
        begin(tiny_options(*keys), resume=mode == "resume", eval_only=mode == "eval_only")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "grid" / "one"
    claim_folder(folder, resume=False, overwrite=False)
    (tmp_path / "grid" / "two").mkdir()
    with pytest.raises(UserError), unless_refused(folder):
        (folder / "log.txt").write_text("begun\n")
        raise UserError("no")
    assert below(tmp_path) == ["grid", "grid/two"]


def test_whatever_else_ends_it_leaves_it_for_a_look(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claim_folder(folder, resume=False, overwrite=False)
    with pytest.raises(RuntimeError), unless_refused(folder):
        (folder / "log.txt").write_text("begun\n")
        raise RuntimeError
    assert below(tmp_path) == ["run", "run/log.txt"]


@contextmanager
def held_by_another(folder: Path) -> Iterator[None]:
    """As by another process; BlockingIOError if this one holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("resume", [True, False])
def test_two_trainings_do_not_share_a_folder(resume: bool, tiny_options: Options, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with held_by_another(folder):
        with pytest.raises(UserError, match=r"OUTPUT_DIR .*run: another process is at work there"):
            begin(tiny_options("MGOT.OVERWRITE", True), resume=resume)
        assert below(folder) == []
        with pytest.raises(UserError, match=r"OUTPUT_DIR .*run: another process is at work there"):
            begin(tiny_options(), eval_only=True)
        assert below(folder) == []
    with pytest.raises(UserError, match=r"--eval-only needs a checkpoint"):
        begin(tiny_options(), eval_only=True)
    with pytest.raises(UserError, match=r"FEAT_DIM is 99"):
        begin(tiny_options(*WRONG))
    with held_by_another(folder):
        assert below(folder) == []


def test_two_grids_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grid.yml").write_text("tables:\n- title: a\n  rows:\n    full: {}\n")
    (tmp_path / "runs").mkdir()
    argv = ["--config-file", DEMO, "--grid", str(tmp_path / "grid.yml"), "--output", str(tmp_path / "runs")]
    before = signal.getsignal(signal.SIGTERM)
    try:
        with held_by_another(tmp_path / "runs"):
            assert ablate(argv) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "--output" in (told := capsys.readouterr().err) and "another process is at work there" in told
    assert below(tmp_path / "runs") == []


def test_a_training_holds_its_folder_and_its_loaders_processes_do_not(tmp_path: Path) -> None:
    for _ in range(2):
        claim_folder(tmp_path, resume=True, overwrite=False)
    with pytest.raises(BlockingIOError), held_by_another(tmp_path):
        pass
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    release_folder(tmp_path)
    release_folder(tmp_path)
    deadline = time.monotonic() + 20
    try:
        while True:
            try:
                with held_by_another(tmp_path):
                    break
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        child.kill()
        child.join()


def test_a_file_system_without_locks_is_used_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks here")

    logging.getLogger("mgot").propagate = True
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        hold_folder(tmp_path, "OUTPUT_DIR")
    assert "nothing keeps other processes from this folder (no locks here)" in caplog.text
    with held_by_another(tmp_path):
        pass


def test_a_killed_process_has_some_seconds_to_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 60.0)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(files.time, "sleep", lambda _: os.close(descriptor))
    hold_folder(tmp_path, "OUTPUT_DIR")
    with pytest.raises(BlockingIOError), held_by_another(tmp_path):
        pass
    release_folder(tmp_path)


def test_what_a_killed_process_left_is_swept_a_day_later(tmp_path: Path) -> None:
    path = tmp_path / "people.mgot-index.npz"
    old, new, mine = (path.with_name(f"{path.name}.{part}.tmp") for part in (12 * "a", 12 * "b", "my"))
    for left in (old, new, mine):
        left.touch()
    for left in (old, mine):
        os.utime(left, (0, 0))
    write_atomically(path, "rows")
    assert {each.name for each in tmp_path.iterdir()} == {path.name, new.name, mine.name}
