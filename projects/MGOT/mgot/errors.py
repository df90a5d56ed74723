"""The one exception that a user's mistake raises."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake the user can mend: the message is one line that names the culprit and the remedy.

    The tools print the message without a traceback and exit with status 2.
    """


def reason(error: BaseException, limit: int = 160) -> str:
    """The first line of what an exception says, cut at ``limit`` characters; its type's name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:limit] if lines else type(error).__name__
