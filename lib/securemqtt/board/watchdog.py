"""When a board's hardware watchdog is fed: as long as the board gets on.

Loaded where there is one. No clock is read here.
"""

from ..log import log_exception
from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

# A board that has had neither a connection nor Wi-Fi for so long is stuck: its watchdog is no
# longer fed, and restarts it.
_PATIENCE_MS = const(900_000)


class Watchdog:
    """Feeds `device`, an object with `feed()`."""

    def __init__(self, device: "Any", now_ms: int) -> None:
        self._device = device
        self._alive_ms = now_ms
        self._failing = False

    def alive(self, now_ms: int) -> None:
        """Note that the board gets on: it could try for a connection, so it had Wi-Fi and a
        clock.
        """
        self._alive_ms = now_ms

    def feed(self, connected: bool, now_ms: int) -> "Exception | None":
        """Feed the device, unless the board has not got on for too long.

        Return what that failed with, where it did not fail the time before; it is logged.
        """
        if connected:
            self._alive_ms = now_ms
        if now_ms - self._alive_ms >= _PATIENCE_MS:
            return None
        try:
            self._device.feed()
        except Exception as error:  # noqa: BLE001  (a user's object may raise anything)
            if self._failing:
                return None
            self._failing = True
            log_exception(error)
            return error
        self._failing = False
        return None
