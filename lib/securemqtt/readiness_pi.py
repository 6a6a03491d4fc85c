"""What must hold on CPython before it tries its broker: a clock that is not plainly wrong.

All else is the system's business.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ._compat import unix_time
from .failure import failure


def ready(settings: dict[str, Any], failures: int) -> Iterator[int]:
    """See readiness.py. Raises ClockWrong."""
    if unix_time() < settings["clock_floor"]:
        date = time.strftime("%Y-%m-%d", time.gmtime())
        raise failure("ClockWrong", f"the clock says {date}, before this device was provisioned")
    return iter(())
