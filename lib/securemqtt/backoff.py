"""How long to wait before the next attempt to connect: exponential, full jitter, capped. No clock is read here."""

from ._compat import TYPE_CHECKING, const, once, rare

if TYPE_CHECKING:
    from collections.abc import Callable

# The first delay is short, since most losses are a broker's restart; a fleet is spread by the jitter, not by the first delay.
_BASE_MS = const(1_000)
_CAP_MS = const(120_000)
# A connection that lived less than this may be one of a series that a broker drops again and again.
_STABLE_MS = const(30_000)


class Backoff:
    """Delays between attempts. `randint(a, b)` gives a random integer a ≤ n ≤ b (random.randint)."""

    @once
    def __init__(
        self, randint: "Callable[[int, int], int]", base_ms: int = _BASE_MS, cap_ms: int = _CAP_MS, stable_ms: int = _STABLE_MS
    ) -> None:
        self._uniform = randint
        self.base_ms = base_ms
        self.cap_ms = cap_ms
        self.stable_ms = stable_ms
        self.failures = 0
        self._up_since_ms: int | None = None

    @rare
    def connected(self, now_ms: int) -> None:
        """Note that a connection stands: it counts only once it has lasted `stable_ms`."""
        self._up_since_ms = now_ms

    @rare
    def lost(self, now_ms: int, transient: bool = True) -> int:
        """Give the delay in ms after an attempt that failed or a connection that was lost.

        A cause that time alone does not cure (`transient` false) goes to the cap at once. The delay is uniform over the whole range from
        0 to the bound: full jitter spreads a fleet best (measured in docs/recovery.md).
        """
        since = self._up_since_ms
        self._up_since_ms = None
        if since is not None and now_ms - since >= self.stable_ms:
            self.failures = 0
        bound = self.cap_ms
        if transient:
            # The shift is bounded so that the number stays small on a board that fails for years.
            bound = min(self.cap_ms, self.base_ms << min(self.failures, 20))
        self.failures += 1
        return self._uniform(0, bound)
