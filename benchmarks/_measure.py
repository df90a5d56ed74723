"""Time and memory of a function in a process of its own, where nothing before it has left memory behind."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch

from mgot.errors import UserError

GB = 1e9


class Measured(NamedTuple):
    """A call's result, wall time and peak of memory above what was in use when it began.

    Attributes:
        result: what the function returned.
        seconds: wall time.
        peak_gb: resident memory, in 10^9 bytes.
        device_gb: GPU memory, in 10^9 bytes; 0 without a GPU.
    """

    result: Any
    seconds: float
    peak_gb: float
    device_gb: float


def _status(key: str) -> float:
    """A line of /proc/self/status in bytes, such as VmRSS and VmHWM; where there is none, the peak of the process."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return 1024.0 * int(line.split()[1])


def _forget_peak() -> None:
    """Set the process's peak back to what is resident; systems that refuse keep the old peak, never a lower one."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        print(f"the peak of the memory cannot be set back ({error}): it includes the preparation", file=sys.stderr)


def _device_memory() -> int:
    """Most bytes that PyTorch had in use on the GPU since the last call."""
    if not torch.cuda.is_available():
        return 0
    most = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return most


def _child(
    pipe: Connection, prepare: Callable[..., Any], measured: Callable[..., Any], after: Callable[..., Any], args: Any
) -> None:
    try:
        prepared = prepare(args)
        device_before = _device_memory()
        _forget_peak()
        before, start = _status("VmRSS"), perf_counter()
        result = measured(prepared)
        seconds = perf_counter() - start
        peak = max(0.0, _status("VmHWM") - before) / GB
        device = (_device_memory() - device_before) / GB
        pipe.send(Measured(after(prepared, result), seconds, peak, device))
    except BaseException:
        pipe.send(traceback.format_exc())
        raise


def in_fresh_process(
    prepare: Callable[[Any], Any], measured: Callable[[Any], Any], after: Callable[[Any, Any], Any], args: Any
) -> Measured:
    """after(prepared, measured(prepared)) with prepared = prepare(args); only `measured` is measured.

    Raises:
        UserError: the process died or raised.
    """
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, prepare, measured, after, args))
    process.start()
    theirs.close()
    try:
        answer = mine.recv()
    except EOFError:
        answer = "no answer; out of memory?"
    process.join()
    if isinstance(answer, str):
        raise UserError(f"{measured.__module__}.{measured.__name__} failed (exit {process.exitcode}): {answer}")
    return answer
