"""The module `sys` of the board: the interpreter's own, but for the name of the machine and
standard output as bytes.

`sys.platform` stays what it is ("linux"): what lies below is the unix port, and code that looks
there wants to know that.
"""

import sys as _sys
from collections import namedtuple

import wire


class _Raw:
    """Standard output as bytes: without the carriage return that the simulator puts before
    newlines.
    """

    def write(self, data, *limits):
        view = memoryview(data)[: limits[0]] if limits else memoryview(data)
        wire.ask("binary", len(view))
        return _sys.stdout.buffer.write(view)


class _Stdout:
    buffer = _Raw()

    def __getattr__(self, name):
        return getattr(_sys.stdout, name)


class Sys:
    """Stands in for the module, as an object: what is set on it (`path`, `ps1`) reaches the
    interpreter.
    """

    stdout = _Stdout()

    def __getattr__(self, name):
        return getattr(_sys, name)

    def __setattr__(self, name, value):
        setattr(_sys, name, value)


def name_machine(machine):
    """Return `sys.implementation` the board's name."""
    own = _sys.implementation
    fields = ("name", "version", "_machine", "_mpy", "_build", "_thread")
    values = [machine if field == "_machine" else getattr(own, field, "") for field in fields]
    Sys.implementation = namedtuple("implementation", fields)(*values)
