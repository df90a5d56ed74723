"""OUTPUT_DIR: it belongs to one run and needs room for it. A resumed run continues its metrics file."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastreid.utils import comm
from torch import nn

from mgot.analysis.diagnostics.record import FOLDER, forget_records
from mgot.distributed import on_main
from mgot.engine.resume.checkpoint import FITTEST, checkpoint_files
from mgot.errors import UserError
from mgot.files import hold_folder, write_atomically
from mgot.forms import parsed

logger = logging.getLogger("mgot")

_LEFT_BY_A_RUN = ("metrics.json", "results.json", "last_checkpoint")
_EARLY = ("config.yaml", "log.txt")  # what a process writes before it trains
_FOUND: dict[Path, Callable[[], None]] = {}  # folder to what puts it back as this process found it
_ADAM_COPIES = 3  # the weights and two moments of each


def traces_of_a_run(folder: Path) -> list[Path]:
    """If one of these files is there, the folder holds a training. config.yaml and logs do not count."""
    return [folder / name for name in _LEFT_BY_A_RUN if (folder / name).exists()] + checkpoint_files(folder)


def claim_folder(folder: Path, *, resume: bool, overwrite: bool, scoring: bool = False) -> None:
    """Make the folder, check that it can be written, and refuse a folder that holds another run.

    Its state before is remembered, for :func:`unless_refused`. The process holds the folder from now on; the caller
    releases it with :func:`mgot.files.release_folder`.

    Args:
        folder: OUTPUT_DIR.
        resume: continue the run that it holds.
        overwrite: MGOT.OVERWRITE; the run's files are removed later, by :func:`clear_folder`.
        scoring: only score weights: any run may be there.

    Raises:
        UserError: it cannot be made or written, holds a run and no option allows that, or another process is at work
            there.
    """
    try:
        _FOUND.setdefault(folder, _found(folder))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"OUTPUT_DIR {folder} cannot be written: {error.strerror}; choose another") from None
    traces = traces_of_a_run(folder)
    if traces and not (resume or overwrite or scoring):
        raise UserError(
            f"OUTPUT_DIR {folder} holds another run ({traces[0].name}): continue it with --resume, remove it with"
            " MGOT.OVERWRITE True, or choose another OUTPUT_DIR"
        )
    on_main(lambda: hold_folder(folder, "OUTPUT_DIR"))


def _found(folder: Path) -> Callable[[], None]:
    """What restores a folder to its present state, after changes by a run that has not started."""
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    paths = [folder / name for name in _EARLY]
    before = {path: path.read_bytes() for path in paths if path.is_file()}

    def put_back() -> None:
        for path in paths:
            if path in before:
                path.write_bytes(before[path])
            else:
                path.unlink(missing_ok=True)
        for place in missing:
            with suppress(OSError):  # somebody else has put something there
                place.rmdir()

    return put_back


@contextmanager
def unless_refused(folder: Path) -> Iterator[None]:
    """If the block ends with a user's mistake, OUTPUT_DIR is restored to its state before the process claimed it.

    After anything else it stays as it is.
    """
    put_back = _FOUND.get(folder)
    try:
        yield
    except UserError:
        if put_back is not None and comm.is_main_process():
            put_back()
        raise
    finally:
        _FOUND.pop(folder, None)


def clear_folder(folder: Path) -> None:
    """Remove an earlier run's checkpoints, metrics, results, curves, records and rankings; other files stay."""
    traces = traces_of_a_run(folder)
    for path in [*traces, folder / FITTEST, *folder.glob("events.out.tfevents.*")]:
        path.unlink(missing_ok=True)
    forget_records(folder)
    if traces:
        logger.warning(f"{folder}: its earlier run is removed (MGOT.OVERWRITE)")


def remove_temporaries(folder: Path) -> None:
    """Remove files of a process that was killed while it was writing."""
    for name in ("model_*.pth", FITTEST, *_LEFT_BY_A_RUN, f"{FOLDER}/"):
        for path in folder.glob(f"{name}*.tmp"):
            path.unlink(missing_ok=True)


def trim_metrics(path: Path, start_iteration: int) -> None:
    """Remove the lines that a run will write again when it continues from an iteration, and incomplete lines."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if parsed(line)["iteration"] < start_iteration:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_atomically(path, "".join(f"{line}\n" for line in kept))


def check_space(folder: Path, model: nn.Module, keep: int) -> None:
    """Refuse to start if the checkpoints will not fit: ``keep`` of them, the final one, and one being written.

    The size of a checkpoint is estimated as the model's state and two moments of each weight.

    Raises:
        UserError: the disk has less room; names how much is needed.
    """
    held = sum(path.stat().st_size for path in checkpoint_files(folder))
    state = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    need = (keep + 2) * _ADAM_COPIES * state - held
    free = shutil.disk_usage(folder).free
    if free < need:
        raise UserError(
            f"OUTPUT_DIR {folder}: {keep + 2} checkpoints need {need / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are"
            " free: make room, lower MGOT.CHECKPOINT.KEEP, or choose another OUTPUT_DIR"
        )
