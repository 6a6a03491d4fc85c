"""What whoever taps the wire can read: a search for MQTT's topics and payloads, and for anything
outside TLS records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from securemqtt_tools.demo.relay import Stream

# What the demonstration's messages hold, and how every MQTT 3.1.1 connection begins.
MARKERS = (
    b"devices/",
    b"/reading",
    b"/command/",
    b'"number"',
    b'"celsius"',
    b'"interval_s"',
    b"\x00\x04MQTT\x04",
)

# RFC 8446 §5.1: change_cipher_spec, alert, handshake, application_data
_RECORD_TYPES = range(20, 24)
_RECORD_HEADER_BYTES = 5
_MAJOR_VERSION = 3
_LONGEST_RECORD_BYTES = 2**14 + 2048  # RFC 5246 §6.2.3, the larger of the two


def readable(streams: Iterable[Stream], markers: Sequence[bytes] = MARKERS) -> set[bytes]:
    """Return those of `markers` that can be read in what went over the wire."""
    return {marker for stream in streams for marker in markers if stream.content.find(marker) >= 0}


def is_tls(stream: Stream) -> bool:
    """Return True if a stream is one TLS record after the other and nothing else; its last may be
    cut off.
    """
    content, at = stream.content, 0
    while at < len(content):
        header = content[at : at + _RECORD_HEADER_BYTES]
        if header[0] not in _RECORD_TYPES or (len(header) > 1 and header[1] != _MAJOR_VERSION):
            return False
        if len(header) == _RECORD_HEADER_BYTES:
            size = int.from_bytes(header[3:5], "big")
            if size > _LONGEST_RECORD_BYTES:
                return False
            at += size
        at += _RECORD_HEADER_BYTES
    return True
