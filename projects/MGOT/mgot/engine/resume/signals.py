"""SIGTERM and SIGINT make a run stop at the end of its step; a second one stops it at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from fastreid.utils import comm

logger = logging.getLogger("mgot")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AGREE_EVERY = 10


class StopRequest:
    """Context in which the first signal is only noted.

    For the second signal, and afterwards, the old handlers are back.

    Outside the main thread Python does not allow signal handlers, so a stop is never requested.

    Attributes:
        number: of the signal; 0 before it came.
    """

    def __init__(self) -> None:
        self.number = 0
        self._old: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()
        logger.warning(f"{signal.Signals(number).name}: stopping at the end of this step; once more stops at once")

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step, the same on all processes.

        Several processes ask each other from time to time.
        """
        if comm.get_world_size() == 1:
            return self.number > 0
        if step % _AGREE_EVERY:
            return False
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        number = torch.tensor(self.number, device=device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        self.number = int(number)
        return self.number > 0
