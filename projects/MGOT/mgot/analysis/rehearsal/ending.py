"""Ctrl-C and SIGTERM end a rehearsal, so that what it wrote is removed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from mgot.engine.resume.signals import SIGNALS


class Ending:
    """Context in which a signal ends the process: with SystemExit at once, or at :meth:`check` if it was lost.

    Loaders can lose the exception. Python drops exceptions from a ``__del__`` or from a weak reference's callback, and
    the end of a loader runs both. If the signal also ends a loader's process, PyTorch's handler of SIGCHLD raises in
    place of ours, even while we clean up. So that handler is off from the signal to the end of the process. Outside the
    main thread nothing changes, because Python does not allow signal handlers there.

    Attributes:
        status: 128 + the number of the signal; 0 before it came.
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
