"""Reading a log line by line, whichever broker has written it: one home may have had several."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from securemqtt_tools.broker.audit.embedded import EmbeddedReader
from securemqtt_tools.broker.audit.event import Event
from securemqtt_tools.broker.audit.hivemq import HiveMQReader
from securemqtt_tools.broker.audit.line import EMBEDDED, RABBITMQ, parse_line
from securemqtt_tools.broker.audit.mosquitto import MosquittoReader
from securemqtt_tools.broker.audit.rabbitmq import RabbitMQReader

# HiveMQ's lines have the level in front, which none of Mosquitto's has.
_OF_HIVEMQ = ("INFO ", "DEBUG ")


class Reader:
    """Reads it. `whole`: it is read from its beginning."""

    def __init__(self, now: datetime, whole: bool) -> None:
        self._now = now
        self.has_read = False
        """Whether a line was read as that of a broker."""
        self.has_lines = False
        self._embedded = EmbeddedReader()
        self._hivemq = HiveMQReader()
        self._mosquitto = MosquittoReader()
        self._rabbitmq = RabbitMQReader(whole)

    def events(self, raw: bytes) -> Iterator[Event]:
        """Return what a line tells, which may be nothing."""
        self.has_lines = self.has_lines or bool(raw)
        line = parse_line(raw.decode("utf-8", "replace"), self._now)
        if line is None:
            return
        self.has_read = True
        if line.kind == EMBEDDED:
            yield from self._embedded.events(line)
        elif line.kind == RABBITMQ:
            yield from self._rabbitmq.events(line)
        elif line.text.startswith(_OF_HIVEMQ):
            yield from self._hivemq.events(line)
        else:
            yield from self._mosquitto.events(line)
