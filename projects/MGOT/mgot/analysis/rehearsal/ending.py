"""Ctrl-C and SIGTERM end a rehearsal, so that what it wrote is removed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from mgot.engine.resume.signals import SIGNALS


class Ending:
    """Context in which a signal ends the process: at once by SystemExit, or at :meth:`check` where that got lost.

    Loaders can make it get lost. Python drops what is raised in a ``__del__`` or in a weak reference's callback, and
    the end of a loader runs both. And where the signal ends a loader's process too, PyTorch's handler of SIGCHLD raises
    in place of ours, even while we clean up: from the signal to the process's end it is not asked any more.

    Outside the main thread, where Python lets nobody handle signals, nothing changes.

    Attributes:
        status: 128 + the number of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.status = 0
        self._old: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Ending:
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._end) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGCHLD, _pass)
        self.status = 128 + number
        self.check()

    def check(self) -> None:
        """End here if a signal came.

        Raises:
            SystemExit: it did.
        """
        if self.status:
            raise SystemExit(self.status)


def _pass(number: int, frame: FrameType | None) -> None: ...
