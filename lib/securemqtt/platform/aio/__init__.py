"""What differs between the asyncio of CPython and that of MicroPython."""

from .. import BOARD

if BOARD:
    from .micropython import Awaitable, Rest, ended_well, is_gone
else:
    from .cpython import Awaitable, Rest, ended_well, is_gone  # type: ignore[assignment]

__all__ = ["Awaitable", "Rest", "ended_well", "is_gone"]
