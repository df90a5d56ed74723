"""Files that are always complete, also after a kill."""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# What zipfile raises where a zip is damaged; a RuntimeError speaks of encryption or of a newer kind of zip.
DAMAGED_ZIP = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream that replaces a file when the block ends. If the block raises, the old file stays.

    After a kill, and for a reader, there is the old content or the new, never a part.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) as :func:`replacing` does."""
    with replacing(path) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)
