"""When a hardware watchdog is fed."""

import select
import socket

from securemqtt.board.watchdog import Watchdog
from securemqtt.transport.stream_mbedtls import RECORD_BYTES, Stream
from support.interpreters.either import micropython_only
from support.models.history import History

PATIENCE_MS = 900000


class _Device:
    """A hardware watchdog that counts."""

    def __init__(self) -> None:
        self.fed = 0

    def feed(self) -> None:
        self.fed += 1


def _fed(watchdog: Watchdog, device: _Device, connected: bool, now_ms: int) -> bool:
    before = device.fed
    watchdog.feed(connected, now_ms)
    return device.fed > before


def test_it_is_fed_until_the_board_has_not_got_on_for_a_quarter_of_an_hour() -> None:
    device = _Device()
    watchdog = Watchdog(device, 1000)
    assert _fed(watchdog, device, False, 1000)
    assert _fed(watchdog, device, False, 1000 + PATIENCE_MS - 1)
    assert not _fed(watchdog, device, False, 1000 + PATIENCE_MS)
    assert not _fed(watchdog, device, False, 1000 + 9 * PATIENCE_MS)


def test_a_connection_and_an_attempt_count_as_getting_on() -> None:
    device = _Device()
    watchdog = Watchdog(device, 0)
    now_ms = 0
    for _ in range(3):
        now_ms += PATIENCE_MS
        assert _fed(watchdog, device, True, now_ms)
    now_ms += PATIENCE_MS
    watchdog.alive(now_ms)
    assert _fed(watchdog, device, False, now_ms + PATIENCE_MS - 1)
    assert not _fed(watchdog, device, False, now_ms + PATIENCE_MS)


def test_a_client_feeds_it_while_it_can_try_to_connect() -> None:
    device = _Device()
    with History(1, watchdog=device) as history:
        history.come_to_rest()
        assert history.client.connected
        assert device.fed
        history.reach(False)
        history.lose(0)
        for _ in range(4 * PATIENCE_MS // 60000):
            before = device.fed
            history.pass_time(60000)
            history.turn()
            assert device.fed > before
        assert not history.client.connected


class _SlowTls:
    """A TLS connection whose peer takes each record at the second try."""

    def __init__(self) -> None:
        self.taken = b""
        self._offered = False

    def write(self, data: memoryview) -> "int | None":
        self._offered = not self._offered
        if self._offered:
            return None
        self.taken += bytes(data)
        return len(data)


@micropython_only
def test_a_long_write_that_gets_on_feeds_it() -> None:
    device = _Device()
    stream = Stream(None, device.feed)
    stream._tls = peer = _SlowTls()
    stream.stage = "session"
    stream.raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # it can always be written to
    try:
        stream._poll.register(stream.raw, select.POLLIN)
        data = bytes(range(256)) * 16
        stream.write(data)
        assert device.fed == len(data) // RECORD_BYTES - 1
        stream.drain(10000)
        assert peer.taken == data
    finally:
        stream.raw.close()
