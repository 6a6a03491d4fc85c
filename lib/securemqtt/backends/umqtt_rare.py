"""What the MicroPython backend does to open a connection, up to CONNECT.

Not kept in a board's memory, see `_compat.rarely`.
"""

import errno

from .._compat import TYPE_CHECKING, now_ms
from .tls_mbedtls import opening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .umqtt import UmqttLink


def open_link(link: "UmqttLink") -> None:
    """See contract.py."""
    link.close(False)
    settings = link._settings
    now = now_ms()
    link._deadline_ms = now + int(settings["connect_timeout_s"] * 1000)
    link._session.sent_ms = link._session.received_ms = now
    link._epoch += 1
    stream = link.sock
    if stream.stage == "connack":
        link._doubtful = True
    stream.stage = "resolve"
    link._opening = _attempt(link)


def _attempt(link: "UmqttLink") -> "Iterator[None]":
    """Return a generator that goes on connecting; when it ends there is a connection, and CONNECT
    waits in the stream for the handshake.
    """
    for _ in opening(link.sock, link._settings):
        if now_ms() > link._deadline_ms:
            raise OSError(errno.ETIMEDOUT)
        yield
    _write_connect(link)


def _write_connect(link: "UmqttLink") -> None:
    """Write CONNECT (MQTT 3.1.1, section 3.1)."""
    settings = link._settings
    fields = [settings["client_id"].encode()]
    flags = 2 if settings["clean_session"] else 0
    if settings["will"]:
        topic, payload, qos, retain = settings["will"]
        fields += [topic.encode(), payload]
        flags |= 4 | qos << 3 | (32 if retain else 0)
    if settings["username"] is not None:
        fields.append(settings["username"].encode())
        flags |= 128
        if settings["password"] is not None:
            fields.append(settings["password"].encode())
            flags |= 64
    keep_alive_s = settings["keep_alive_s"]
    size = 10 + sum(len(field) + 2 for field in fields)
    head = bytearray(b"\x10")
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    link.sock.write(
        head + b"\0\x04MQTT\x04" + bytes((flags, keep_alive_s >> 8, keep_alive_s & 255))
    )
    for field in fields:
        link._send_str(field)
