"""A RabbitMQ of a test's own: started on free ports of loopback, and ended in all cases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.rabbitmq.program import Program, find_rabbitmq
from securemqtt_tools.broker.rules import Rule, Rules
from securemqtt_tools.broker.rules_file import read_rules, write_rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from support.brokers.mqtt import Peer, Refused, client_context
from support.identities.credentials import Credentials, issued_credentials
from support.packets import SUBSCRIBE, answer, field
from support.requirements import missing
from support.speed import seconds


def require_rabbitmq() -> Program:
    """Return the installed RabbitMQ; fail in CI, skip elsewhere, if there is none. One of another
    series, as Debian 13 has it, is refused by the product, and skipped here.
    """
    try:
        program = find_rabbitmq()
    except FatalError as error:
        pytest.skip(str(error))
    return program or missing("RabbitMQ", "rabbitmq-server")


class Node:
    """A RabbitMQ, its authority, and how one enters."""

    def __init__(self, authority: Authority, directory: Path, websockets: bool) -> None:
        """Set up the broker's directory."""
        self.authority = authority
        self.directory = directory
        self.websockets = websockets
        config = BrokerConfig.create(
            directory / "broker",
            authority,
            names=["localhost", "127.0.0.1"],
            port=0,
            websockets_port=0 if websockets else None,
            roles={"controller": "operator"},
        )
        require_rabbitmq()
        self.broker = BrokerProcess(config.directory, engine="rabbitmq")

    @property
    def config(self) -> BrokerConfig:
        """Its settings."""
        return self.broker.config

    def start(self) -> None:
        """Start it and wait until it listens and holds what its files say."""
        self.broker.start()

    def stop(self) -> None:
        """End it in order, or at once if it does not end."""
        self.broker.stop()

    @property
    def log(self) -> Path:
        """Its log."""
        return self.broker.log

    @property
    def port(self) -> int:
        """The port of this transport."""
        port = self.config.websockets_port if self.websockets else self.config.port
        assert port is not None
        return port

    def devices(self, *device_ids: str) -> list[Credentials]:
        """Issue certificates, and have the broker know them."""
        made = [
            issued_credentials(self.directory, self.authority.issue_device(one, renew=True))
            for one in device_ids
        ]
        self.update()
        return made

    def update(self) -> None:
        """Have the broker take up what the authority says."""
        self.config.refresh(self.authority)
        self.broker.reload()

    def rule(self, groups: dict[str, set[str]], *lines: Rule, take_up: bool = True) -> None:
        """Put these rules in the place of those before."""
        members = {group: frozenset(ids) for group, ids in groups.items()}
        number = read_rules(self.config.directory).number + 1
        write_rules(self.config.directory, Rules(number, members, lines))
        if take_up:
            self.broker.reload()

    def peer(self, credentials: Credentials | None) -> Peer:
        """Open a connection, without the MQTT CONNECT."""
        context = client_context(self.config.directory / "ca.pem", credentials)
        return Peer(self.port, context, websockets=self.websockets)

    def enter(
        self,
        device_id: str,
        credentials: Credentials,
        *,
        clean: bool = True,
        will: tuple[str, bytes] | None = None,
    ) -> Peer:
        """Connect as a device."""
        peer = self.peer(credentials)
        try:
            peer.connect(device_id, clean=clean, will=will, will_retain=False)
        except BaseException:
            peer.drop()
            raise
        return peer


@contextmanager
def running_rabbitmq(authority: Authority, directory: Path, websockets: bool) -> Iterator[Node]:
    """Run one; it has ended after the block."""
    node = Node(authority, directory, websockets)
    try:
        node.start()
        yield node
    finally:
        node.stop()


@contextmanager
def again_and_again(peer: Peer, topic_filter: str) -> Iterator[None]:
    """Subscribe without pause, from before the block until the connection ends."""
    begun = Event()

    def send() -> None:
        with suppress(Refused):
            for number in itertools.cycle(range(1, 1 << 16)):
                peer.send(answer(SUBSCRIBE, number, field(topic_filter) + b"\1"))
                if number == 100:
                    begun.set()

    def receive() -> None:
        with suppress(Refused):
            while True:
                peer.receive_packet()

    threads = [Thread(target=one, daemon=True) for one in (send, receive)]
    for one in threads:
        one.start()
    try:
        assert begun.wait(seconds(20))
        yield
    finally:
        for one in threads:
            one.join(seconds(20))
        peer.drop()
