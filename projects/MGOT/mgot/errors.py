"""What a user meets without a traceback: a mistake of their own, and a run that a signal ended."""

from __future__ import annotations

import signal


class UserError(ValueError):
    """A mistake the user can mend: the message is one line that names the culprit and the remedy.

    The tools print the message without a traceback and exit with status 2.
    """


def reason(error: BaseException, limit: int = 300) -> str:
    """The first line of what an exception says, :func:`shortened`; its type's name where it says nothing."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0], limit) if lines else type(error).__name__


def shortened(text: str, limit: int) -> str:
    """The text, or as much of it as ends with a whole word within ``limit`` characters, and "...".

    It ends outside of brackets where that leaves a third of the limit or more.
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
    """A signal asked the run to stop, and it did, at a step's end.

    The tools print the message and exit with :attr:`status`, the shell's convention for a process that a signal ended.

    Args:
        number: of the signal.
        saved: what was saved, and how to go on.
    """

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {saved}")
        self.status = 128 + number
