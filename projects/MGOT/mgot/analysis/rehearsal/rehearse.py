"""The rehearsal, stage by stage, in a folder that is removed afterwards. Later stages are tried even if one fails."""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from fastreid.config import CfgNode
from fastreid.utils.env import seed_all_rng
from fastreid.utils.events import EventStorage

from mgot.analysis.rehearsal import checkpoints, extraction, labelling, material, room, training
from mgot.analysis.rehearsal.ending import Ending
from mgot.analysis.rehearsal.machine import card_memory, existing, process_age
from mgot.analysis.rehearsal.scene import NotTried, Scene
from mgot.analysis.rehearsal.schedule import schedule_of
from mgot.analysis.rehearsal.table import Row, duration, told, total
from mgot.errors import UserError, reason

logger = logging.getLogger("mgot")

Stage = Callable[[Scene], Iterator[Row]]
TIMED: tuple[tuple[str, Stage], ...] = (
    ("data", material.read_lists),
    ("images", material.read_images),
    ("memory", material.weigh_steps),
    ("weights", material.load_weights),
    ("trainer", material.build_trainer),
    ("extract", extraction.extract),
    ("cluster", labelling.cluster),
    ("match", labelling.match),
    ("intra steps", training.intra),
    ("cross steps", training.cross),
    ("save", checkpoints.save),
    ("score", extraction.score),
    ("resume", checkpoints.resume),
)
ROOM: tuple[tuple[str, Stage], ...] = (
    ("GPU memory", room.card),
    ("RAM", room.ram),
    ("disk", room.disk),
    ("image cache", room.image_cache),
    ("/dev/shm", room.shared_memory),
)


class Report(NamedTuple):
    """What a rehearsal found.

    Attributes:
        rows: of the table.
        text: the table, what fails and which key to change, and notes.
    """

    rows: list[Row]
    text: str

    @property
    def fails(self) -> bool:
        """Whether something would fail."""
        return any(row.failure for row in self.rows)


def rehearse(cfg: CfgNode, *, steps: int, card_gb: float | None = None) -> Report:
    """Take a config through every stage of its run.

    Nothing is written into OUTPUT_DIR. The rehearsal writes into a hidden folder beside it, and removes that folder.

    Args:
        cfg: checked.
        steps: of each training stage, 1 or more; if there are several, the first is not counted.
        card_gb: memory of the GPU to judge by, in 10^9 bytes; None: the GPU that the run would train on.

    Raises:
        UserError: ``steps`` is not 1 or more, or nothing can be written beside OUTPUT_DIR.
        SystemExit: Ctrl-C or SIGTERM came.
    """
    if steps < 1:
        raise UserError(f"--steps: {steps} is too few; give 1 or more")
    began = Row("start", process_age(), found="Python and its libraries")
    with Ending() as ending, _folder_beside(Path(cfg.OUTPUT_DIR)) as folder, _listening(folder) as warnings:
        card = card_memory(torch.device(cfg.MODEL.DEVICE)) if card_gb is None else card_gb * room.GB
        scene = Scene(cfg, folder, steps, card, schedule_of(cfg), rows=[began])
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        seed_all_rng(cfg.SEED)
        labelling.wake()
        with EventStorage(0) as storage:
            for name, stage in TIMED:
                _play(scene, name, stage, storage, ending)
        scene.rows.append(total(scene.rows))
        for name, stage in ROOM:
            _play(scene, name, stage, storage, ending)
        return Report(scene.rows, told(scene.rows, [*scene.notes, *warnings]))


def _play(scene: Scene, name: str, stage: Stage, storage: EventStorage, ending: Ending) -> None:
    """Try a stage: its rows, or one that says what went wrong."""
    start = time.perf_counter()
    if scene.trainer is not None:
        scene.trainer.storage = storage
    try:
        rows = list(stage(scene))
    except NotTried as missing:
        rows = [Row(name, found=str(missing), tried=False)]
    except Exception as error:  # whatever a stage of a run may raise: the later ones are rehearsed all the same
        rows = [Row(name, failure=explained(error, scene))]
    ending.check()
    scene.rows += rows
    for row in rows:
        _say(f"{row.name}: {row.verdict}, {duration(time.perf_counter() - start)}")


def _say(line: str) -> None:
    print(f"rehearse: {line}", file=sys.stderr, flush=True)


def explained(error: Exception, scene: Scene) -> str:
    """What an error means for a run, and which key to change."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return f"out of memory ({reason(error)}): set MGOT.RECOMPUTE, or lower SOLVER.IMS_PER_BATCH"
    if "DataLoader worker" in str(error):
        return f"a loader process died ({reason(error)}): lower DATALOADER.NUM_WORKERS, or enlarge /dev/shm"
    if isinstance(error, OSError):
        folder = scene.cfg.OUTPUT_DIR
        return f"{reason(error)}: see that {folder} can be written and has room, or choose another OUTPUT_DIR"
    return f"{type(error).__name__}: {reason(error)}; no key is known to help, please report it"


@contextmanager
def _folder_beside(output: Path) -> Iterator[Path]:
    """A hidden folder on OUTPUT_DIR's disk, in its nearest parent that exists; removed afterwards."""
    parent = existing(output.resolve().parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=parent, ignore_cleanup_errors=True) as made:
            yield Path(made)
    except PermissionError as error:
        raise UserError(f"OUTPUT_DIR {output} cannot be written: {error.strerror}; choose another") from None


@contextmanager
def _listening(folder: Path) -> Iterator[list[str]]:
    """In this context warnings are collected, and no log of MGOT or fast-reid reaches the terminal."""
    warnings: list[str] = []
    ours = _Gathering(warnings)
    loggers = [logging.getLogger(name) for name in ("mgot", "fastreid")]
    before = [(each, each.level, each.propagate, list(each.handlers)) for each in loggers]
    quiet: tuple[logging.Handler, ...] = (ours, logging.NullHandler())
    for each, handler in zip(loggers, quiet, strict=True):
        each.setLevel(logging.INFO)  # below, fast-reid's trainer would set up a log of its own
        each.propagate, each.handlers = False, [handler]
    try:
        yield warnings
    finally:
        for each, level, propagate, kept in before:
            each.setLevel(level)
            each.propagate, each.handlers = propagate, kept


class _Gathering(logging.Handler):
    """Keeps the text of warnings."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(re.sub(r"^epoch \d+: ", "", record.getMessage()))  # those of both stages say the same
