"""What differs between the asyncio of CPython and that of MicroPython."""

from .. import BOARD

if BOARD:
    from .micropython import Awaitable, Rest
else:
    from .cpython import Awaitable, Rest  # type: ignore[assignment]

__all__ = ["Awaitable", "Rest"]
