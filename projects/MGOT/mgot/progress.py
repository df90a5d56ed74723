"""Progress bars that are silent if there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(iterable: Iterable[T], desc: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on standard error; no bar if standard error is not a terminal."""
    return iter(
        tqdm(iterable, desc=desc, total=total, leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True)
    )
