"""The module `time` of the board: whole seconds, from the board's own epoch, in no time zone but
UTC.
"""

from time import *
from time import gmtime as _gmtime
from time import mktime as _mktime
from time import time as _time
from time import time_ns as _time_ns

_SECONDS_1970_TO_2000 = 946684800
_epoch = 0

del clock


def set_epoch(year):
    """Count from the start of 1970 or of 2000."""
    global _epoch
    _epoch = _SECONDS_1970_TO_2000 if year == 2000 else 0


def time():
    return int(_time()) - _epoch


def time_ns():
    return _time_ns() - _epoch * 1000000000


def gmtime(seconds=None):
    return _gmtime(int(_time()) if seconds is None else int(seconds) + _epoch)[:8]


localtime = gmtime


def mktime(moment):
    return int(_mktime(tuple(moment[:8]) + (0,))) - _epoch
