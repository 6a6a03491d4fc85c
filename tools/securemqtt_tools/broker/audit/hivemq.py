"""HiveMQ's log, as we configure it: what our extension writes, and HiveMQ's own word of an end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from securemqtt_tools.broker.audit.embedded import WHAT, WHO
from securemqtt_tools.broker.audit.event import DISCONNECTED, EVICTED, REFUSED, Event, event
from securemqtt_tools.broker.audit.line import Line

_OURS = re.compile(rf"INFO securemqtt: (?P<what>{'|'.join(WHAT)}) {WHO}(?:: (?P<reason>.*))?")
# The id may be what a client said, until our extension has put the certificate's in its place.
_END = re.compile(
    r"DEBUG Client ID: (?P<identity>.*), IP: (?P<address>[0-9A-Fa-f.:%\w]{1,80}) "
    r"(?:was disconnected\. reason: (?P<reason>.*?)\.?|(?P<how>disconnected \w+)(?: from .*)?\.)"
)
_UNKNOWN = "UNKNOWN"
_MOST = 10_000
_SAME = timedelta(seconds=2)
_REASONS = {
    "disconnected gracefully": "",
    "disconnected ungracefully": "it went away without a word",
    "Another client connected with the same client id.": "taken over by a newer connection",
    "Client was idle for too long": "it was silent for longer than its keep-alive",
}
_SILENT = "it went away before it had said who it is"


class HiveMQReader:
    """Reads it."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._evicted: set[str] = set()
        self._last: tuple[str, datetime | None] = ("", None)

    def events(self, line: Line) -> Iterator[Event]:
        """Return what a line tells."""
        ours = _OURS.fullmatch(line.text)
        if ours is not None:
            yield from self._ours(line, ours)
            return
        end = _END.fullmatch(line.text)
        if end is None:
            return
        reason = _plain(end["reason"] or end["how"] or "")
        if end["identity"] != _UNKNOWN:
            if len(self._reasons) < _MOST:
                self._reasons[end["identity"]] = reason
        elif not self._is_told(line, end):
            reason = _SILENT if end["how"] else reason
            yield event(line.time, REFUSED, None, end["address"], reason)

    def _ours(self, line: Line, found: re.Match[str]) -> Iterator[Event]:
        what, identity = WHAT[found["what"]], found["identity"]
        reason = found["reason"] or ""
        if what == DISCONNECTED:
            reason = self._reasons.pop(identity, "")
            if identity in self._evicted:  # told already
                self._evicted.discard(identity)
                return
        elif what == EVICTED and len(self._evicted) < _MOST:
            self._evicted.add(identity)
        elif what == REFUSED and identity == "null":  # as Java writes that there is none
            identity = None
        yield event(line.time, what, identity, found["address"], reason, found["serial"])

    def _is_told(self, line: Line, end: re.Match[str]) -> bool:
        """Return True for the end of a connection of which a refusal was told just before."""
        before, when = self._last
        self._last = (end["address"], line.time)
        if not end["how"] or before != end["address"] or when is None or line.time is None:
            return False
        self._last = ("", None)
        return line.time - when <= _SAME


def _plain(reason: str) -> str:
    if reason.startswith("SSL handshake failed"):
        return "TLS handshake: no certificate, one that is not accepted, or no TLS"
    if reason.startswith("SSL message transmission failed"):
        return "it does not speak TLS"
    return _REASONS.get(reason, reason)
