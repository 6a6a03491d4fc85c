"""The embedded broker's log: see Embedded in embedded/server.py."""

from __future__ import annotations

import re
from collections.abc import Iterator

from securemqtt_tools.broker.audit.event import (
    CONNECTED,
    DISCONNECTED,
    EVICTED,
    REFUSED,
    Event,
    event,
)
from securemqtt_tools.broker.audit.line import Line
from securemqtt_tools.broker.audit.words import in_words

# Also how HiveMQ's extension names whom it speaks of.
WHO = r"(?P<identity>[A-Za-z0-9_-]{1,64}|\?) from (?P<address>[0-9A-Fa-f.:%\w]{1,80}|\?)"
WHO += r"(?: with (?P<shared>shared )?certificate (?P<serial>[0-9A-Fa-f]{1,40}))?"
WHAT = {"let in": CONNECTED, "left": DISCONNECTED, "refused": REFUSED, "put out": EVICTED}
_LINE = re.compile(
    rf"[A-Z]+ securemqtt\.broker: (?P<what>{'|'.join(WHAT)}) {WHO}(?:: (?P<reason>.*))?"
)
_TLS = "TLS: "


class EmbeddedReader:
    """Reads it."""

    def __init__(self) -> None:
        self._evicted: set[tuple[str, str]] = set()

    def events(self, line: Line) -> Iterator[Event]:
        """Return what a line tells."""
        found = _LINE.fullmatch(line.text)
        if found is None:
            return
        what, reason = WHAT[found["what"]], found["reason"] or ""
        if reason.startswith(_TLS):
            reason = in_words(reason[len(_TLS) :])
        identity = found["identity"]
        which = identity, found["serial"] or ""
        if what == EVICTED:
            if len(self._evicted) < 10_000:
                self._evicted.add(which)
        elif what == DISCONNECTED and which in self._evicted:
            self._evicted.discard(which)  # told already
            return
        known = None if identity == "?" else identity
        if known is None and what == DISCONNECTED:
            what = REFUSED
        is_shared = found["shared"] is not None
        yield event(line.time, what, known, found["address"], reason, found["serial"], is_shared)
