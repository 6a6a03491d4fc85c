"""How long to wait before the next attempt to connect: exponential, full jitter, capped.

No clock is read here.
"""

from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable

# The first delay is short, since most losses are a broker's restart; a fleet is spread by the
# jitter, not by the first delay.
_BASE_MS = const(1_000)
_CAP_MS = const(120_000)
# A connection that lived less than this may be one of a series that a broker drops again and again.
_STABLE_MS = const(30_000)


def lasting(failures: int, lived_ms: int) -> int:
    """Return how many failures in a row there have been once a connection is over that stood for
    `lived_ms`: it counts only if it was stable.
    """
    return 0 if lived_ms >= _STABLE_MS else failures


def next_delay(
    uniform: "Callable[[int, int], int]", failures: int, lived_ms: int = 0, transient: bool = True
) -> "tuple[int, int]":
    """Return the delay in ms after an attempt that failed or a connection that was lost, and how
    many failures in a row there are now.

    `failures` is how many there were before, `lived_ms` how long the connection stood, 0 if there
    was none. A cause that time alone does not cure (`transient` false) goes to the cap at once.
    `uniform(a, b)` gives a random integer a ≤ n ≤ b (random.randint). It is asked for the whole
    range from 0 to the bound: full jitter spreads a fleet best (measured in docs/recovery.md).
    """
    failures = lasting(failures, lived_ms)
    # The shift is bounded so that the number stays small on a board that fails for years.
    bound = min(_CAP_MS, _BASE_MS << min(failures, 20)) if transient else _CAP_MS
    return uniform(0, bound), failures + 1
