"""What differs between CPython and MicroPython: the only file that asks which interpreter this
is.
"""

import gc
import sys

from ._marks import once as once
from ._marks import rare as rare

MICROPYTHON = sys.implementation.name == "micropython"
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

if MICROPYTHON and not TYPE_CHECKING:
    from ._micropython import *  # noqa: F403
else:
    from ._cpython import *  # noqa: F403


def rarely(name: str) -> "Any":
    """Import a module of this package for the occasion: a board forgets it again, and has its heap
    back once the caller is done with it.

    What runs once per connection, or when something fails, is kept out of a board's memory this
    way, with whatever it imports from this package. The tree of errors alone stays, since `except`
    goes by the identity of its classes.
    """
    if not MICROPYTHON:
        return __import__("securemqtt." + name, None, None, ("*",))
    # Else what the program keeps would come to lie between what was lent once, and leave no room
    # for TLS in one piece.
    gc.collect()
    before = list(sys.modules)
    whole = "securemqtt." + name
    try:
        return __import__(whole, None, None, ("*",))
    finally:  # also where memory ran out half-way: then this comes first, since it takes none
        if whole not in before:
            _forget(whole)
        for path in list(sys.modules):
            if path not in before and path[:11] == "securemqtt." and path != "securemqtt.errors":
                _forget(path)


def _forget(path: str) -> None:
    """Take a module out of memory.

    None first: MicroPython's dicts keep the value of what was deleted until its place is taken.
    """
    sys.modules[path] = None  # type: ignore[assignment]
    del sys.modules[path]
    parent, _, leaf = path.rpartition(".")
    package = sys.modules.get(parent)
    if package and leaf in package.__dict__:
        setattr(package, leaf, None)
        delattr(package, leaf)
