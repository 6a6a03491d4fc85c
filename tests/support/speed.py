"""How long this machine takes for what a reference machine does in a second: no test fails because
it runs on a slow machine, or beside much else.

It is measured once, by the first that asks, and handed to every process that is started, pytest's
workers among them, in SECUREMQTT_TEST_SLOWNESS; whoever sets that (10: ten times slower) has
nothing measured. MicroPython imports this, too, and finds it there.
"""

import os

VARIABLE = "SECUREMQTT_TEST_SLOWNESS"
# Measured on 2026-11-28 on a virtual machine with two cores (Intel Xeon, CPython 3.11): the
# processor time of the work below, the least of 12, which is what the clock on the wall shows where
# nothing else runs.
REFERENCE_S = 0.26
# Load may come after the measurement. Nothing waits for this when all is well: a test that hangs is
# ended later, that is all.
LARGEST = 1000
HEADROOM = 3
# The start of an interpreter and pure Python: what most of a test's time goes into.
_WORK = "import asyncio, ssl\nfor number in range(500_000): hash((number, str(number)))"


def seconds(reference_s: float) -> float:
    """Return what is to be waited here at most for what takes the reference machine, idle, up to
    `reference_s`.

    Every deadline of a test's own is made by this. What the library itself counts in seconds, such
    as `keep_alive_s`, is no matter of speed.
    """
    return reference_s * slowness() * HEADROOM


def slowness() -> float:
    """Return by how much this machine is slower than the reference, 1 if it is not."""
    given = os.getenv(VARIABLE)
    if given is None:
        given = os.environ[VARIABLE] = f"{max(1.0, measured_s() / REFERENCE_S):.1f}"
    try:
        factor = float(given)
    except ValueError:
        factor = 0.0
    if not 1 <= factor <= LARGEST:
        raise ValueError(
            f"{VARIABLE}={given} is no number from 1 to {LARGEST}; 10: ten times slower"
        )
    return factor


def slowness_now() -> float:
    """Return by how much this machine is slower at this moment: others may use it, too.

    It takes a second or so: for what was late, before that is called a fault.
    """
    return max(slowness(), measured_s() / REFERENCE_S)


def measured_s() -> float:
    """Return how long a fixed piece of work takes by the clock on the wall, on all cores at the
    same time.
    """
    import subprocess  # MicroPython has none of these
    import sys
    import time

    began = time.monotonic()
    workers = [subprocess.Popen([sys.executable, "-c", _WORK]) for _ in range(os.cpu_count() or 1)]
    assert {worker.wait() for worker in workers} == {0}
    return time.monotonic() - began
