"""Decoded images in one file that all processes map into memory. It is ready at the next start, and may exceed RAM.

A file holds a header and the images as one block of uint8. Its name comes from its content. [ours]
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mgot.errors import UserError

logger = logging.getLogger("mgot")

_MAGIC = b"MGOTIMG1"
_HEADER = struct.Struct("<8sII")  # magic, CRC-32 of the block, zero
_CHECKED_AT_ONCE = 1 << 24
GB = 10**9


def cache_name(paths: Sequence[str], shape: Sequence[int]) -> str:
    """File name for these images at this (N, 3, H, W): by path, size and time of change of each; order counts."""
    digest = hashlib.sha256(repr((_MAGIC, tuple(shape))).encode())
    for path in paths:
        try:
            status = os.stat(path)
            stamp = (status.st_size, status.st_mtime_ns)
        except OSError:
            stamp = (-1, -1)
        digest.update(repr((os.path.abspath(path), stamp)).encode())
    return f"{digest.hexdigest()[:32]}.images"


def open_or_fill(
    folder: Path, paths: Sequence[str], shape: Sequence[int], batches: Iterable[np.ndarray], *, limit_gb: float
) -> np.ndarray:
    """The cached block of these images; it is filled first if it is missing or damaged.

    Processes that need the same block wait until the first one has filled it. To keep the limit, blocks that were not
    used for longest are deleted.

    Args:
        folder: where blocks are kept; made if it is missing.
        paths: files of the images.
        shape: (N, 3, H, W).
        batches: the images in order as uint8 (n, 3, H, W); read only if the block has to be filled.
        limit_gb: size limit of the folder, in 10^9 bytes.

    Returns:
        (N, 3, H, W) uint8, mapped; changes to it stay in this process.

    Raises:
        UserError: the block is over the limit, the disk has no space for it, or the folder cannot be written.
    """
    size = _HEADER.size + int(np.prod(shape, dtype=np.int64))
    target = folder / cache_name(paths, shape)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(target):
            if not _whole(target, size):
                _make_room(folder, target, size, limit_gb)
                _fill(target, batches, size)
            os.utime(target)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise UserError(
            f"the image cache {folder} cannot be written ({reason}): set DATALOADER.CACHE_DIR to another folder, or"
            " DATALOADER.CACHE off"
        ) from None
    return np.memmap(target, dtype=np.uint8, mode="c", offset=_HEADER.size, shape=tuple(shape))


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """A lock on this block for all processes of the machine; it ends with the process that holds it."""
    with target.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info(f"waiting for another process to fill {target}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _whole(path: Path, size: int) -> bool:
    """Whether the file exists and its block has the checksum that was written with it."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        header = stream.read(_HEADER.size)
        if len(header) == _HEADER.size and path.stat().st_size == size:
            magic, expected, _ = _HEADER.unpack(header)
            found = 0
            while part := stream.read(_CHECKED_AT_ONCE):
                found = zlib.crc32(part, found)
            if magic == _MAGIC and found == expected:
                return True
    logger.warning(f"{path} is damaged: filling it again")
    return False


def _make_room(folder: Path, target: Path, size: int, limit_gb: float) -> None:
    if size > limit_gb * GB:
        raise UserError(
            f"the image cache needs {size / GB:.2f} GB, over DATALOADER.CACHE_LIMIT_GB ({limit_gb:g}): raise it, or set"
            " DATALOADER.CACHE off"
        )
    others = [path for path in folder.glob("*.images") if path != target]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    while others and size + sum(path.stat().st_size for path in others) > limit_gb * GB:
        oldest = others.pop()
        logger.info(f"{oldest} is deleted from the image cache to make room")
        oldest.unlink()  # a process that has it mapped keeps it until it ends
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"the image cache needs {size / GB:.2f} GB and {folder} has {free / GB:.2f} GB left: set"
            " DATALOADER.CACHE_DIR to another disk, or DATALOADER.CACHE off"
        )


def _fill(target: Path, batches: Iterable[np.ndarray], size: int) -> None:
    """Write the block beside the target, then rename it. A kill leaves the target unchanged."""
    temporary, checksum = target.with_suffix(".tmp"), 0
    try:
        with temporary.open("wb") as stream:
            stream.write(_HEADER.pack(_MAGIC, 0, 0))
            for batch in batches:
                part = np.ascontiguousarray(batch).data
                stream.write(part)
                checksum = zlib.crc32(part, checksum)
            assert stream.tell() == size, "the images are not of the stated shape"
            stream.seek(0)
            stream.write(_HEADER.pack(_MAGIC, checksum, 0))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
