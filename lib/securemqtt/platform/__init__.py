"""What differs between CPython and MicroPython: the only folder that asks which of them this is."""

import sys

MICROPYTHON = sys.implementation.name == "micropython"
TYPE_CHECKING = False

if MICROPYTHON and not TYPE_CHECKING:
    from .micropython import *  # noqa: F403
else:
    from .cpython import *  # noqa: F403
