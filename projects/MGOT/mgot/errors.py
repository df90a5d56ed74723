"""The one exception that a user's mistake raises."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake the user can mend: the message is one line that names the culprit and the remedy.

    The tools print the message without a traceback and exit with status 2.
    """
