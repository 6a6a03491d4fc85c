"""`broker audit-log` of what RabbitMQ writes, which breaks lines where a client's name does."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone

import pytest

from securemqtt_tools.broker.audit.event import Event
from securemqtt_tools.broker.audit.reader import Reader
from securemqtt_tools.broker.audit.source import LogFile
from securemqtt_tools.pki import Authority
from support.brokers.hostile_names import HOSTILE, VICTIM
from support.brokers.mqtt import Refused
from support.brokers.rabbitmq import Node, require_rabbitmq, running_rabbitmq
from support.identities.credentials import Credentials
from support.network.net import wait_until
from support.packets import CONNACK, CONNECT, DISCONNECT, field, packet
from support.speed import seconds

pytestmark = [pytest.mark.xdist_group("rabbitmq-audit"), pytest.mark.brokers]


@pytest.fixture(scope="module", params=["tls", "wss"])
def node(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """Run a RabbitMQ for the tests of this module, entered by each transport."""
    require_rabbitmq()
    directory = tmp_path_factory.mktemp("rabbitmq")
    with running_rabbitmq(authority, directory, request.param == "wss") as running:
        yield running


def events(node: Node) -> list[Event]:
    """Return what its log tells."""
    log = LogFile(node.log)
    reader = Reader(datetime.now(timezone.utc), log.whole)
    return [one for line in log.lines() for one in reader.events(line)]


def of(node: Node, device_id: str) -> list[tuple[str, str | None]]:
    """Return what happened to an id, and from where it came."""
    return [(one.what, one.address) for one in events(node) if one.identity == device_id]


def count(node: Node, what: str) -> int:
    return sum(one.what == what for one in events(node))


def connect(node: Node, credentials: Credentials | None, client_id: str, user: str | None) -> None:
    """Try to come in, by CONNECT with these names."""
    with suppress(Refused), node.peer(credentials) as peer:
        flags = 0x02 if user is None else 0xC2
        body = field("MQTT") + struct.pack("!BBH", 4, flags, 60) + field(client_id)
        if user is not None:
            body += field(user) + field("password")
        peer.ask(packet(CONNECT, body), CONNACK)


def test_who_came_in_left_and_was_put_out(node: Node) -> None:
    """By WebSockets RabbitMQ does not say who it was."""
    device_id = f"audited-{node.websockets}"
    (credentials,) = node.devices(device_id)
    before = count(node, "disconnected")
    with node.enter(device_id, credentials) as peer:
        peer.send(packet(DISCONNECT))
        peer.wait_closed()
    wait_until(lambda: count(node, "disconnected") > before, seconds(20), "the leaving")
    with node.enter(device_id, credentials) as peer:
        node.authority.revoke(device_id)
        node.update()
        peer.wait_closed()
    if node.websockets:
        wait_until(lambda: count(node, "disconnected") > before + 1, seconds(20), "the leaving")
        assert of(node, device_id) == []
        assert {one.address for one in events(node)} == {"127.0.0.1"}
        return
    wait_until(lambda: "evicted" in dict(of(node, device_id)), seconds(20), "the putting out")
    assert of(node, device_id) == [
        (what, "127.0.0.1") for what in ("connected", "disconnected", "connected", "evicted")
    ]


def test_who_was_refused_and_why(node: Node) -> None:
    gone, liar = f"gone-{node.websockets}", f"liar-{node.websockets}"
    revoked, valid = node.devices(gone, liar)
    node.authority.revoke(gone)
    node.update()
    for credentials, device_id, user, reason in (
        (None, VICTIM, None, "it showed no certificate"),
        (revoked, gone, None, "its certificate has been revoked"),
        (valid, VICTIM, None, "its client id is not the name in its certificate, or it may not"),
        (valid, liar, VICTIM, "wrong user name or password"),
    ):
        before = count(node, "refused")
        connect(node, credentials, device_id, user)
        wait_until(lambda before=before: count(node, "refused") > before, seconds(20), reason)
        last = [one for one in events(node) if one.what == "refused"][-1]
        assert reason in last.reason
        is_named = credentials is valid and user is None  # the certificate's, not what it said
        assert last.identity == (liar if is_named else None)
        # Of a TLS handshake it is not said whose it was.
        assert last.address == ("127.0.0.1" if credentials is valid else None)


@pytest.mark.parametrize("place", ["client id", "user name"])
def test_no_client_makes_a_line_of_another(node: Node, place: str) -> None:
    device_id = f"forger-{node.websockets}-{place[:4]}".replace(" ", "")
    (credentials,) = node.devices(device_id)
    before = count(node, "refused")
    for said in HOSTILE:
        names = (said, None) if place == "client id" else (device_id, said)
        connect(node, credentials, *names)
    wait_until(lambda: count(node, "refused") >= before + len(HOSTILE), seconds(20), "all refusals")
    found = events(node)
    assert not [one for one in found if one.identity == VICTIM or one.address == "1.2.3.4"]
    assert all(one.reason.isprintable() and len(one.reason) < 300 for one in found)
