"""What differs between CPython and MicroPython: the only file that asks which interpreter this is."""

import sys

MICROPYTHON = sys.implementation.name == "micropython"
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

if MICROPYTHON and not TYPE_CHECKING:
    from ._micropython import *  # noqa: F403

    def ready(settings, failures):
        """See readiness.py."""
        return rarely("readiness").ready(settings, failures)

else:
    from ._cpython import *  # noqa: F403


def rarely(name: str) -> "Any":
    """Import a module of this package for the occasion: a board forgets it again, and has its heap back once the caller is done with it.

    What runs once per connection, or when something fails, is kept out of a board's memory this way, with whatever it imports from this
    package. The tree of errors alone stays, since `except` goes by the identity of its classes.
    """
    before = MICROPYTHON and list(sys.modules)
    try:
        return __import__("securemqtt." + name, None, None, ("*",))
    finally:  # also where memory ran out half-way
        if before:
            for path in list(sys.modules):
                parent, _, leaf = path.rpartition(".")
                if path not in before and parent[:10] == "securemqtt" and leaf != "errors":
                    # A default, and a question first: memory may have run out before there was a module behind its name.
                    sys.modules.pop(path, None)
                    if hasattr(sys.modules.get(parent), leaf):
                        delattr(sys.modules[parent], leaf)
