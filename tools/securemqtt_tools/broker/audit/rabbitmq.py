"""RabbitMQ's log, of 3.10. A message is one or more lines, each with the same beginning; only the
first of them is RabbitMQ's own for certain: a user name with line breaks makes more of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from securemqtt.platform import escaped
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

_PROCESS = r"<\d{1,6}\.\d{1,12}\.\d{1,12}>"
_HEAD = re.compile(rf"\[(?P<level>[a-z]+)\] (?P<pid>{_PROCESS}) (?P<text>.*)")
_NAME = r"(?P<name>(?P<address>[0-9A-Fa-f.:\[\]]{2,60}) -> [0-9A-Fa-f.:\[\]]{2,60})"
_ACCEPTED = re.compile(
    rf"accepting MQTT connection {_PROCESS} \({_NAME}, client id: (?P<identity>.*)\)"
)
# Of a connection by WebSockets it is never said whose it is.
_WEB = re.compile(rf"accepting Web MQTT connection {_PROCESS} \({_NAME}\)")
_CLOSED = re.compile(rf"closing (?:Web )?MQTT connection {_PROCESS} \({_NAME}.*\)")
_GONE = re.compile(rf'(?:Web )?MQTT connection "{_NAME}" will terminate because (?P<reason>[^"]*)')
_SILENT = re.compile(rf'closing (?:Web )?MQTT connection "?{_NAME}"? \(keepalive timeout\)')
_TAKEN = re.compile(
    rf'MQTT disconnecting client "{_NAME}" with duplicate id \'[^\']*\'|'
    r"Web MQTT disconnecting a client with duplicate ID '(?P<identity>[^']*)' \(.*\)"
)
_LOGIN = re.compile(r"MQTT login failed for user '(?P<identity>.*)': (?P<reason>[a-z ]+)")
# Whom it has no user for, whether that is the name in a certificate or what somebody has chosen.
_UNKNOWN = re.compile(r"MQTT login failed for user '(?P<said>.*)', authentication failed: .*")
_UNAUTHORISED = re.compile(
    rf"MQTT connection {_NAME} is closing due to an (?P<reason>auth[a-z]+ failure)"
)
_WEB_REFUSED = re.compile(rf'MQTT protocol error (?P<reason>\w+) for connection "{_NAME}"')
_FRAME = re.compile(
    rf"MQTT (?:detected a framing error|cannot parse a frame) on connection '?{_NAME}'?.*"
)
_DELETED = re.compile(
    r"Closing all connections from user '(?P<identity>[A-Za-z0-9_-]{1,64})' because it's being "
    r"deleted"
)
_ALERT = re.compile(
    r"TLS server: In state .* (?P<whose>generated SERVER|received CLIENT) ALERT: Fatal - "
    r"(?P<reason>.*)"
)
_NOT_AUTHENTICATED = ("authentication failure", "unauthenticated")
_CRASHED = "** Generic server "
_WRONG = "wrong user name or password"
_NO_CLIENT_ID = "virtual host access not allowed"
_MOST = 10_000
_LONGEST_NAME = 64
_Table = dict[str, tuple[str | None, str]]


class RabbitMQReader:
    """Reads it. `whole`: the log is read from its beginning, and not from within a message."""

    def __init__(self, whole: bool) -> None:
        self._message = ""
        self._is_sure = whole
        # By process: identity and address.
        self._connections: _Table = {}
        self._logins: _Table = {}  # by process: identity and reason

    def events(self, line: Line) -> Iterator[Event]:
        """Return what a line tells."""
        found = _HEAD.fullmatch(line.text)
        if found is None:
            return
        message = line.stamp + found["level"] + found["pid"]
        if message == self._message:
            return
        is_sure, self._is_sure, self._message = self._is_sure or bool(self._message), True, message
        if is_sure:
            yield from self._message_of(line, found["level"], found["pid"], found["text"])

    def _message_of(self, line: Line, level: str, pid: str, text: str) -> Iterator[Event]:
        if level == "info":
            yield from self._info(line, pid, text)
        elif found := _TAKEN.fullmatch(text):
            if found["identity"] and pid in self._connections:
                self._connections[pid] = found["identity"], self._connections[pid][1]
            yield from self._left(line, pid, "taken over by a newer connection")
        elif found := _SILENT.fullmatch(text):
            yield from self._left(line, pid, "it was silent for longer than its keep-alive")
        elif found := _LOGIN.match(text):
            # Only of who has shown a certificate of that name is this a warning.
            identity = found["identity"] if level == "warning" else None
            reason = found["reason"].strip()
            if reason == _NO_CLIENT_ID:
                reason = "its client id is not the name in its certificate, or it may not enter"
            _keep(self._logins, pid, (identity, reason))
        elif found := _UNKNOWN.fullmatch(text):
            said = escaped(found["said"][:_LONGEST_NAME])
            reason = f"{_WRONG}, or no device that is known yet (of who said to be {said!r})"
            _keep(self._logins, pid, (None, reason))
        elif found := _UNAUTHORISED.fullmatch(text):
            yield from self._turned_away(line, pid, found)
        elif found := _FRAME.fullmatch(text):
            reason = "what it sent is no MQTT 3.1 or 3.1.1"
            if pid in self._connections:
                yield from self._left(line, pid, reason)
            else:
                yield event(line.time, REFUSED, None, without_port(found["address"]), reason)
        elif found := _ALERT.fullmatch(text):
            is_theirs = found["whose"].endswith("CLIENT")
            reason = f"{'alert ' if is_theirs else ''}{found['reason']}"
            yield event(line.time, REFUSED, None, None, in_words(reason))
        elif text.startswith(_CRASHED) and pid in self._connections:
            identity, address = self._connections.pop(pid)
            yield event(line.time, DISCONNECTED, identity, address, "ended by the broker")

    def _info(self, line: Line, pid: str, text: str) -> Iterator[Event]:
        if found := _ACCEPTED.fullmatch(text):
            address = without_port(found["address"])
            _keep(self._connections, pid, (found["identity"], address))
            yield event(line.time, CONNECTED, found["identity"], address)
        elif found := _WEB.fullmatch(text):
            _keep(self._connections, pid, (None, without_port(found["address"])))
        elif found := _WEB_REFUSED.fullmatch(text):
            yield from self._turned_away(line, pid, found)
        elif _CLOSED.fullmatch(text):
            yield from self._left(line, pid, "")
        elif _GONE.fullmatch(text):
            yield from self._left(line, pid, "it went away without a word")
        elif found := _DELETED.fullmatch(text):
            for one, (identity, address) in list(self._connections.items()):
                if identity == found["identity"]:
                    del self._connections[one]
                    reason = "its certificates have all been revoked"
                    yield event(line.time, EVICTED, identity, address, reason)

    def _turned_away(self, line: Line, pid: str, found: re.Match[str]) -> Iterator[Event]:
        address, login = without_port(found["address"]), self._logins.pop(pid, None)
        identity, _ = self._connections.pop(pid, (None, ""))
        if login is not None:
            yield event(line.time, REFUSED, login[0], address, login[1])
        elif found["reason"] in _NOT_AUTHENTICATED:
            yield event(line.time, REFUSED, None, address, _WRONG)
        else:  # later, by what it has asked for
            reason = "it asked for what its rules do not allow"
            yield event(line.time, DISCONNECTED, identity, address, reason)

    def _left(self, line: Line, pid: str, reason: str) -> Iterator[Event]:
        """Return the end of a connection that was told of; that of any other is the end of what
        was refused, or of what came in before the log began.
        """
        identity, address = self._connections.pop(pid, (None, None))
        if address is not None:
            reason = (
                reason if identity else f"{reason or 'left'} (RabbitMQ does not say who it was)"
            )
            yield event(line.time, DISCONNECTED, identity, address, reason)


def _keep(table: _Table, pid: str, value: tuple[str | None, str]) -> None:
    if len(table) >= _MOST:
        del table[next(iter(table))]
    table[pid] = value
