"""The module `os` of the board: `uname` and `sync` are there, the host's environment and shell are
not.
"""

from collections import namedtuple
from os import *
from sys import implementation as _implementation
from sys import version as _version

for _name in ("getenv", "putenv", "unsetenv", "system"):
    globals().pop(_name, None)

_uname = None


def uname():
    """Describe the system as `os.uname()` does on a board."""
    return _uname


def sync():
    """Do nothing: what is written is in the image."""


def name_machine(sysname, machine):
    """Set what `uname` says."""
    global _uname
    fields = ("sysname", "nodename", "release", "version", "machine")
    release = ".".join(str(part) for part in _implementation.version[:3])
    version = _version.split("; ")[-1] + " (simulated board)"
    _uname = namedtuple("uname", fields)(sysname, sysname, release, version, machine)
