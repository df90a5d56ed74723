"""Files that are always complete, also after a kill."""

from __future__ import annotations

import errno
import glob
import logging
import lzma
import os
import re
import stat
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mgot.errors import UserError

try:
    import fcntl
except ImportError:  # not a Unix system: no folder is held
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("mgot")

# What zipfile raises where a zip is damaged; a RuntimeError speaks of encryption or of a newer kind of zip.
DAMAGED_ZIP = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def require_regular(path: str | Path) -> None:
    """Raise OSError for what is neither a file nor a folder: to open a named pipe is to wait for its writer."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("not a regular file")


_A_DAY = 24 * 3600.0
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp")
_KEPT = 50  # characters of a file's name; with the rest they are less than the 255 bytes that a name may have


def beside(path: Path) -> Path:
    """A name of its own for what will replace a file: two processes that write the same file do not mix."""
    return path.with_name(f"{path.name[:_KEPT]}.{uuid.uuid4().hex[:12]}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream that replaces a file when the block ends. If the block raises, the old file stays.

    After a kill, and for a reader, there is the old content or the new, never a part. Of two writers, the last one to
    end has written the file.
    """
    _sweep(path)
    temporary = beside(path)
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sweep(path: Path) -> None:
    """Remove what a process that was killed a day ago or earlier left beside a file."""
    for left in path.parent.glob(f"{glob.escape(path.name[:_KEPT])}.*.tmp"):
        with suppress(OSError):
            if _TEMPORARY.fullmatch(left.name.removeprefix(path.name[:_KEPT])) and _age(left) > _A_DAY:
                left.unlink()


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) as :func:`replacing` does. A lone surrogate of a file's name is written escaped."""
    with replacing(path) as stream:
        stream.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


PATIENCE = 10.0  # seconds in which a process that was killed lets go of its folder
_HELD: dict[str, int] = {}  # folder that this process holds to the descriptor that does it


def _release_all() -> None:
    while _HELD:
        os.close(_HELD.popitem()[1])


if fcntl is not None:  # a loader's process that outlives a killed run must hold nothing
    os.register_at_fork(after_in_child=_release_all)


def hold_folder(folder: Path, option: str) -> None:
    """Keep other processes from the same folder until :func:`release_folder`, or until this process ends.

    Nothing is written. On a file system without locks, nothing is held.

    Args:
        folder: it is there.
        option: that names it, for the message.

    Raises:
        UserError: another process holds it, and goes on to for :data:`PATIENCE` seconds.
    """
    place = os.path.realpath(folder)
    if place in _HELD or fcntl is None:
        return
    end = time.monotonic() + PATIENCE
    while not _hold(place):
        if time.monotonic() > end:
            raise UserError(f"{option} {folder}: another process is at work there: wait for its end, or choose another")
        time.sleep(0.1)


def _hold(place: str) -> bool:
    """False if another process holds the folder."""
    descriptor = None
    try:
        descriptor = os.open(place, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _HELD[place] = descriptor
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            return False
        logger.warning(f"{place}: nothing keeps other processes from this folder ({error.strerror})")
    return True


def release_folder(folder: Path) -> None:
    """Let others have what :func:`hold_folder` holds; nothing where it holds nothing."""
    descriptor = _HELD.pop(os.path.realpath(folder), None)
    if descriptor is not None:
        os.close(descriptor)
