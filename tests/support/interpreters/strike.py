"""Calls something in the middle of another call, at its n-th possible point, as a callback strikes
on a board and a signal handler on a computer: at each jump of MicroPython's bytecode, at each
instruction of CPython's within the library.
"""

import sys

from support.interpreters.either import MICROPYTHON

if MICROPYTHON:
    import micropython

    def struck(point: int, act: object, function: object) -> bool:
        """Call `function()`, and `act()` in its middle, at `point`, counted from 0; return True if
        it came to that before `function` was through.

        Raise what either raises.
        """
        callback = _Callback(point, act)
        callback.schedule()
        try:
            function()
            return callback.happened
        finally:
            callback.cancelled = True
            if callback.error is not None:
                raise callback.error

    class _Callback:
        """Schedules itself until its point has come."""

        def __init__(self, point: int, act: object) -> None:
            self._left = point
            self._act = act
            self.happened = False
            self.cancelled = False
            self.error = None

        def schedule(self) -> None:
            micropython.schedule(_run, self)

        def run(self) -> None:
            if self.cancelled:
                return
            if self._left:
                self._left -= 1
                self.schedule()
                return
            self.happened = True
            try:
                self._act()
            except Exception as error:  # noqa: BLE001  (raised by `struck`)
                self.error = error

    def _run(callback: _Callback) -> None:
        callback.run()

else:
    import securemqtt

    # With a separator, so that no module of the tests is taken for one of the library's.
    _LIBRARY = str(securemqtt.__file__).rpartition("/")[0] + "/"

    def struck(point: int, act: object, function: object) -> bool:
        """See above."""
        left = point
        happened = False

        def trace(frame: object, event: str, arg: object) -> object:
            nonlocal left, happened
            if not frame.f_code.co_filename.startswith(_LIBRARY):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and not happened:
                if not left:
                    happened = True
                    act()
                left -= 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function()
        finally:
            sys.settrace(before)
        return happened
