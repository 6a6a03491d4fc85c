"""What ends a command with one line."""

from __future__ import annotations


class FatalError(Exception):
    """A mistake of the user's or a fault outside: the message says what is wrong and what to do.

    Exit status 1.
    """
