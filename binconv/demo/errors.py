"""The one exception of the command line."""

from __future__ import annotations


class CommandError(Exception):
    """Something the user can put right; the message says what, and no traceback is shown."""
