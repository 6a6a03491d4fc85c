"""Mosquitto's log, of 2.0 and 2.1. Before 2.1 it does not say whose connection was refused: that is
told where only one can be meant.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta

from securemqtt_tools.broker.audit.event import (
    CONNECTED,
    DISCONNECTED,
    EVICTED,
    REFUSED,
    Event,
    event,
    without_port,
)
from securemqtt_tools.broker.audit.line import Line
from securemqtt_tools.broker.audit.words import in_words

# Mosquitto cuts a line there, so the end of one may be what a client chose.
_LONGEST = 900
_OPENED = re.compile(r"New connection from (?P<peer>\S+) on port \d+\.")
# The id is greedy: what comes last is Mosquitto's own.
_ENTERED = re.compile(
    r"New client connected from (?P<peer>\S.*?) as (?P<identity>.*) "
    r"\(p\d, c(?P<clean>\d), k(?P<keep_alive>\d+)(?:, u'.*')?\)\."
)
_ENDED = re.compile(
    r"Client (?P<identity>.*?)(?P<how>"
    r" disconnected\.| disconnected: Protocol error\.| disconnected due to protocol error\."
    r"| disconnected, not authorised\.| closed its connection\.| has exceeded timeout, "
    r"disconnecting\.| already connected, closing old connection\.| disconnected due to malformed "
    r"packet\.)"
)
_ENDED_2_1 = re.compile(
    r"Client (?P<identity>.*) \[(?P<peer>\S+)\] disconnected(?:: (?P<how>.*)|\.)"
)
_BROKEN = re.compile(r"Bad socket read/write on client (?P<identity>.*): (?P<how>[^:]*)")
_FAILED = re.compile(r"Client connection from (?P<peer>\S+) (?:failed|denied)(?:: (?P<how>.*))?")
_TLS = re.compile(r"OpenSSL Error[^:]*: (?P<why>.*)")
_VERSION = re.compile(r"Invalid protocol version (?P<number>\d+) in CONNECT from \S+")
_PROTOCOL = re.compile(r"Protocol error from .*: (?P<why>[^:]*)")
_STARTING = re.compile(r"mosquitto version \S+ starting")
_WEBSOCKETS = "Opening websockets listen socket"

_UNKNOWN = "<unknown>"
# The sockets of eviction.py and install.py.
_PUT_OUT = re.compile(r"/.*/(?:eviction/socket|securemqtt\.socket):0")
# As Mosquitto 2.0.21 names who gave a wrong password: by what he said.
_REFUSED = re.compile(r"Client (?P<identity>.*) disconnected, not authorised\.")
_HALF_OPEN = timedelta(seconds=100)  # so long at most one may take to say CONNECT
_MOST = 10_000
_NOT_AUTHORISED = "not authorised: wrong user name or password"
_GONE = "it went away without a word"
_TAKEN_OVER = "taken over by a newer connection"
_PROTOCOL_ERROR = "what it sent breaks the protocol"
_WORDS = {
    "disconnected.": "",
    "closed its connection.": _GONE,
    "connection closed by client.": _GONE,
    "disconnected due to protocol error.": _PROTOCOL_ERROR,
    "disconnected: Protocol error.": _PROTOCOL_ERROR,
    "protocol error.": _PROTOCOL_ERROR,
    "Protocol error.": _PROTOCOL_ERROR,
    "disconnected, not authorised.": _NOT_AUTHORISED,
    "not authorised.": _NOT_AUTHORISED,
    "has exceeded timeout, disconnecting.": "it was silent for longer than its keep-alive",
    "exceeded timeout.": "it was silent for longer than its keep-alive",
    "already connected, closing old connection.": _TAKEN_OVER,
    "session taken over.": _TAKEN_OVER,
}


class MosquittoReader:
    """Reads it."""

    def __init__(self) -> None:
        self._present: dict[str, str] = {}  # who is here: the address
        self._opened: dict[str, None] = {}  # who has not said yet who it is: address and port
        self._ended = 0  # of those, how many have ended, nobody knows which
        self._is_known = False  # whether those are all of them
        self._has_websockets = False  # which before 2.1 do not tell of their opening
        self._held: Event | None = None
        self._first: datetime | None = None
        self._why = ""  # what the line before says of the end that this one is about
        self._put_out: set[str] = set()

    def events(self, line: Line) -> Iterator[Event]:
        """Return what a line tells."""
        if len(line.text) > _LONGEST:
            return
        self._look_at_time(line)
        why, self._why = self._why, ""
        held, self._held = self._held, None
        text = line.text
        entered = _ENTERED.fullmatch(text)
        if held is not None and not (entered and _PUT_OUT.fullmatch(entered["peer"])):
            yield held
        if entered:
            yield from self._entered(line, entered)
        elif found := _TLS.fullmatch(text):
            self._why = why or in_words(found["why"])  # the first of several
        elif found := _VERSION.match(text):
            self._why = f"there is no version {found['number']} of MQTT"
        elif found := _PROTOCOL.fullmatch(text):
            self._why = found["why"]
        elif _STARTING.fullmatch(text):
            self._present.clear()
            self._has_websockets = False
            self._forget(is_known=True)
        elif text.startswith(_WEBSOCKETS):
            self._has_websockets = True
        elif found := _OPENED.fullmatch(text):
            if len(self._opened) >= _MOST:
                self._forget(is_known=False)
            self._opened[found["peer"]] = None
        elif found := _FAILED.fullmatch(text):
            reason = in_words((found["how"] or "too many connections").rstrip("."))
            yield event(line.time, REFUSED, None, found["peer"], reason)
        else:
            self._held = yield from self._left(line, why)

    def _entered(self, line: Line, entered: re.Match[str]) -> Iterator[Event]:
        peer, identity = entered["peer"], entered["identity"]
        if peer in self._opened:
            del self._opened[peer]
        elif self._is_known and not peer.startswith("/"):
            self._has_websockets = True
        if _PUT_OUT.fullmatch(peer):  # as we do it, in place of whoever was here: see eviction.py
            self._put_out.add(identity)
            address = self._present.pop(identity, None)
            # Else we have entered for who is away: see away.py.
            if (entered["clean"], entered["keep_alive"]) == ("1", "60"):
                reason = "its certificate has been revoked"
                yield event(line.time, EVICTED, identity, address, reason)
            return
        if len(self._present) >= _MOST:
            del self._present[next(iter(self._present))]
        self._present[identity] = without_port(peer)
        yield event(line.time, CONNECTED, identity, without_port(peer))

    def _left(self, line: Line, why: str) -> Generator[Event, None, Event | None]:
        """Return what a line tells; by `return` what may turn out to be a putting out, of which
        the next line tells.
        """
        found = _ENDED.fullmatch(line.text) or _BROKEN.fullmatch(line.text)
        if (refused := _REFUSED.fullmatch(line.text)) and (
            refused["identity"] not in self._present or self._opened
        ):
            said = None if refused["identity"] == _UNKNOWN else refused["identity"]
            yield event(line.time, REFUSED, said, self._only_one(), _NOT_AUTHORISED)
            return None
        if found is None or found["identity"] not in (*self._present, *self._put_out, _UNKNOWN):
            newer = _ENDED_2_1.fullmatch(line.text)
            if newer is not None:
                return (yield from self._left_2_1(line, newer, why))
        if found is None:
            return None
        identity, how = found["identity"], found["how"].strip()
        reason = _WORDS.get(how, how)
        if identity == _UNKNOWN:
            address = self._only_one()
            yield event(line.time, REFUSED, None, address, why or _refusal(reason))
        elif identity in self._put_out:
            self._put_out.discard(identity)
        else:
            address = self._present.get(identity)
            told = event(line.time, DISCONNECTED, identity, address, _detailed(reason, why))
            if reason == _TAKEN_OVER:
                return told
            self._present.pop(identity, None)
            yield told
        return None

    def _left_2_1(
        self, line: Line, found: re.Match[str], why: str
    ) -> Generator[Event, None, Event | None]:
        identity, peer = found["identity"], found["peer"]
        was_half_in = self._opened.pop(peer, True) is None
        if identity in self._put_out and peer.startswith("/"):
            self._put_out.discard(identity)
            return None
        how, address = found["how"] or "disconnected.", without_port(peer)
        reason = _WORDS.get(how, how.rstrip("."))
        if identity == address:  # as it calls who has no id yet
            yield event(line.time, REFUSED, None, address, why or _refusal(reason))
        elif was_half_in:
            yield event(line.time, REFUSED, identity, address, _detailed(reason, why))
        else:
            told = event(line.time, DISCONNECTED, identity, address, _detailed(reason, why))
            if reason == _TAKEN_OVER:
                return told
            self._present.pop(identity, None)
            yield told
        return None

    def _only_one(self) -> str | None:
        """Return the address of who was refused, if there was only one who can have been."""
        self._ended += 1
        is_sure = len(self._opened) == 1 and self._is_known and not self._has_websockets
        only = next(iter(self._opened)) if is_sure else None
        if self._ended >= len(self._opened):
            self._opened.clear()
            self._ended = 0
        return without_port(only) if only else None

    def _forget(self, is_known: bool) -> None:
        self._opened.clear()
        self._ended, self._is_known, self._first = 0, is_known, None

    def _look_at_time(self, line: Line) -> None:
        """Know all who may be half in, once the log has been read for so long."""
        if self._is_known or line.time is None:
            return
        if self._first is None:
            self._first = line.time
        elif line.time - self._first > _HALF_OPEN:
            self._is_known = True


def _refusal(reason: str) -> str:
    return "it went away before it was let in" if reason in ("", _GONE) else reason


def _detailed(reason: str, why: str) -> str:
    return f"{reason}: {why}" if reason == _PROTOCOL_ERROR and why else reason
