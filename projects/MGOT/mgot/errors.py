"""Errors that a user sees without a traceback: a mistake in the input, and a run that a signal ended."""

from __future__ import annotations

import signal


class UserError(ValueError):
    """A mistake that the user can fix. The message is one line that says what is wrong and what to change.

    The tools print the message without a traceback and exit with status 2.
    """


def reason(error: BaseException, limit: int = 300) -> str:
    """The first line of an exception's message, :func:`shortened`; the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0], limit) if lines else type(error).__name__


def shortened(text: str, limit: int) -> str:
    """The text. If it is longer than ``limit`` characters, it is cut after a whole word, and "..." is added.

    It is cut outside of brackets if a third of the limit or more is left.
    """
    if len(text) <= limit:
        return text
    depth, word, outside = 0, 0, 0
    for place, sign in enumerate(text[: limit + 1]):
        if sign.isspace():
            word = place
            outside = outside if depth else place
        depth = max(0, depth + (sign in "([{") - (sign in ")]}"))
    return text[: outside if outside > limit // 3 else word or limit].rstrip(" ,;:([{") + " ..."


class Interrupted(Exception):
    """A signal stopped the run at a step's end.

    The tools print the message and exit with :attr:`status`, as is usual for a process that a signal ended.

    Args:
        number: of the signal.
        saved: what was saved, and how to continue.
    """

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {saved}")
        self.status = 128 + number
