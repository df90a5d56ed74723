"""Compiled inner loops and the threads that run them.

numba compiles every loop without the interpreter lock. Plain Python threads run it over ranges of rows. So numba's own
threads, which conflict with PyTorch's, are not needed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numba
import torch

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(fastmath: set[str] | bool = False) -> Callable[[Kernel], Kernel]:
    """Decorator: compile a loop without the interpreter lock, and cache the machine code on disk if possible.

    If neither the package's nor the user's cache folder can be written, numba refuses to compile with a cache. The loop
    is then compiled in each process, which takes some seconds at first use. The cache only notices changes of the
    loop's own file. If you change a loop that loops of other files call, delete __pycache__/*.nbi.
    """

    def compile_kernel(kernel: Kernel) -> Kernel:
        try:
            return cast(Kernel, numba.njit(nogil=True, cache=True, fastmath=fastmath)(kernel))
        except RuntimeError as error:
            logger.info("%s: %s; set NUMBA_CACHE_DIR to a writable folder", kernel.__name__, error)
            return cast(Kernel, numba.njit(nogil=True, fastmath=fastmath)(kernel))

    return compile_kernel


def threads() -> int:
    """The number of threads: PyTorch's, so OMP_NUM_THREADS and torch.set_num_threads work."""
    return torch.get_num_threads()


def chunk_size(rows: int, smallest: int = 64) -> int:
    """Rows in a chunk.

    Eight chunks for each thread balance uneven rows; fewer than `smallest` rows are not worth a call.
    """
    return max(smallest, -(-rows // (8 * threads())))


def map_rows(function: Callable[[int, int], Result], rows: int, chunk: int | None = None) -> Iterator[Result]:
    """function(start, stop) for each chunk of rows, several at a time; results come in the order of the rows.

    At most two results for each thread wait, so the size of a chunk limits the memory.
    """
    workers = threads()
    chunk = chunk or chunk_size(rows)
    starts = range(0, rows, chunk)
    if workers == 1 or len(starts) <= 1:
        for start in starts:
            yield function(start, min(start + chunk, rows))
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for start in starts:
            waiting.append(pool.submit(function, start, min(start + chunk, rows)))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def over_rows(function: Callable[[int, int], None], rows: int, chunk: int | None = None) -> None:
    """Call function(start, stop) for each chunk of rows, several at a time; it writes its results itself."""
    deque(map_rows(function, rows, chunk), maxlen=0)


@contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """A pool of as many threads as PyTorch has.

    Each PyTorch call uses one thread, so there are no barriers in a call.
    """
    workers = threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(workers)
