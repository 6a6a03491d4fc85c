"""What is asked of each broker, from each interpreter, and what a broker is known not to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from contract.play import CPYTHON
from contract.remote import Remote
from securemqtt_tools.broker.kinds import AMQTT, HIVEMQ, MOSQUITTO, RABBITMQ
from securemqtt_tools.broker.networks import Binding, parse_network
from securemqtt_tools.broker.rules import Rule, Rules
from securemqtt_tools.broker.rules_file import read_rules, write_rules
from support.brokers.doors import Door
from support.brokers.mqtt import Peer
from support.identities.bundles import write_bundle

# As provisioning puts the library onto a board, which is the form that users run.
INTERPRETERS = {CPYTHON: "CPython", "board": "MicroPython"}
BROKERS = {
    MOSQUITTO: "Mosquitto",
    AMQTT: "embedded",
    HIVEMQ: "HiveMQ",
    RABBITMQ: "RabbitMQ",
}
OPERATOR = "controller"
_Test = TypeVar("_Test", bound=Callable[..., object])


def capability(title: str) -> Callable[[_Test], _Test]:
    """Give a test its row in the table."""

    def named(test: _Test) -> _Test:
        marked: _Test = pytest.mark.capability(title)(test)
        return marked

    return named


@dataclass(frozen=True)
class Lack:
    """A capability that a broker does not have, or an interpreter, and why (None: any).

    Its test has to fail: what begins to work has to leave `LACKS`.
    """

    test: str
    why: str
    broker: str | None = None
    interpreter: str | None = None


LACKS = (
    Lack("test_qos_2", "its MQTT plugin makes QoS 1 of it; `publish` refuses it", RABBITMQ),
    Lack("test_denial_of_a_part", "it refuses a filter of which a part is denied", RABBITMQ),
    Lack("test_websockets", "the library has WebSockets on CPython only", interpreter="board"),
    Lack("test_address", "it asks no address: `broker audit-log` names a breach", MOSQUITTO),
    Lack("test_address", "it asks no address: `broker audit-log` names a breach", RABBITMQ),
)


def lack(test: str, broker: str, interpreter: str) -> Lack | None:
    """Return what is known to keep a test from passing."""
    for one in LACKS:
        if (
            one.test == test
            and one.broker in (None, broker)
            and one.interpreter in (None, interpreter)
        ):
            return one
    return None


class Stage:
    """A broker, and devices under one interpreter; they have ended with the block."""

    def __init__(self, door: Door, interpreter: str, directory: Path, compiled: Path) -> None:
        self.door = door
        self._interpreter = interpreter
        self._directory = directory
        self._compiled = compiled
        self._ending = ExitStack()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.close()

    def identity(self) -> str:
        """Make a new device; return its id. The broker knows it from then on."""
        device_id = self.door.new_id("device")
        self._bundle(device_id)
        self.door.update()
        return device_id

    def device(self, device_id: str, **options: Any) -> Remote:
        """Run the library as a device; it is not connected yet."""
        bundle = self._directory / device_id
        port = options.pop("port", self.door.port)
        remote = Remote(self._interpreter, bundle, self._compiled, port=port, **options)
        return self._ending.enter_context(remote)

    def operator(self) -> Peer:
        """Enter as the operator, who is no client of ours."""
        credentials = self.door.credentials(OPERATOR)
        self.door.update()  # which a broker that must know its devices waits for
        return self._ending.enter_context(self.door.enter(OPERATOR, credentials))

    def rule(
        self, groups: dict[str, Iterable[str]], *lines: Rule, networks: dict[str, str] | None = None
    ) -> None:
        """Put these rules in the place of those before, while connections stand."""
        directory = self.door.broker.directory
        members = {group: frozenset(ids) for group, ids in groups.items()}
        bindings = tuple(
            Binding(who, who in members, parse_network(one))
            for who, one in (networks or {}).items()
        )
        number = read_rules(directory).number + 1
        write_rules(directory, Rules(number, members, lines, bindings))
        self.door.broker.config.save()
        self.door.broker.reload()

    def _bundle(self, device_id: str) -> None:
        write_bundle(
            self._directory / device_id,
            self.door.authority,
            device_id,
            port=self.door.port,
            board=self._interpreter != CPYTHON,
        )
