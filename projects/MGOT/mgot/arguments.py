"""Arguments of the tools: numbers in a range, and files that can be read or written.

They are checked before any work.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mgot.errors import UserError
from mgot.ranges import LARGEST, Allowed, count

MOST_PROCESSES = 1024
N = TypeVar("N", int, float)


def whole(low: int, high: int = LARGEST) -> Callable[[str], int]:
    """An argparse type: a whole number from ``low`` on, to ``high``."""
    return _number(int, count(low, high), f"{low} or more" if high == LARGEST else "")


def fraction(allowed: Allowed) -> Callable[[str], float]:
    """An argparse type: a number that is allowed."""
    return _number(float, allowed)


def _number(kind: Callable[[str], N], allowed: Allowed, words: str = "") -> Callable[[str], N]:
    def read(text: str) -> N:
        value: N | None
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            value = None
        if value is None or not allowed.holds(value):
            raise argparse.ArgumentTypeError(f"must be {words or allowed.words}, not {text[:40]!r}")
        return value

    return read


def require_file(path: str | Path, option: str) -> None:
    """Raise UserError if a file to read is missing or is a folder."""
    if not os.path.isfile(path):
        raise UserError(f"{option} {path}: {'is a folder' if os.path.isdir(path) else 'no such file'}")


def require_folder(path: str | Path, option: str) -> None:
    """Raise UserError if a folder to read is missing or is a file."""
    if not os.path.isdir(path):
        raise UserError(f"{option} {path}: {'is a file' if os.path.isfile(path) else 'no such folder'}")


def require_file_target(path: str | Path, option: str) -> None:
    """Raise UserError if a file cannot be written: it is a folder or a device, or its folder cannot be made or written.

    Nothing is created.
    """
    path = Path(path)  # whose empty path is the working folder
    if os.path.isdir(path):
        raise UserError(f"{option} {path}: is a folder; name a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{option} {path}: is not a regular file; name another")
    _require_possible(path, option)
    require_folder_target(path.parent, option)


def _require_possible(path: Path, option: str) -> None:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}; choose another") from None


def require_folder_target(path: str | Path, option: str) -> None:
    """Raise UserError if a folder cannot be made or written."""
    path = Path(path).absolute()
    _require_possible(path, option)
    there = next((place for place in (path, *path.parents) if os.path.lexists(place)), path)
    if not os.path.isdir(there):
        raise UserError(f"{option} {path}: {there} is not a folder; choose another")
    try:
        with tempfile.TemporaryFile(dir=there):  # os.access finds /proc writable
            pass
    except OSError:
        raise UserError(f"{option} {path}: {there} cannot be written; choose another") from None
