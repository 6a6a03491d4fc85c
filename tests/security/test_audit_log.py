"""`broker audit-log` of what each broker really writes: who came in, left, or was refused, and that
no client has it tell of another.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from support.brokers.doors import Door
from support.brokers.hostile_names import HOSTILE, VICTIM
from support.brokers.mqtt import Refused
from support.identities.credentials import issued_credentials
from support.network.net import wait_until
from support.packets import CONNACK, CONNECT, DISCONNECT, field, packet
from support.speed import seconds

Row = dict[str, Any]
_TELLS_SERIALS = ("amqtt", "hivemq")
_LONGEST = 400


class Audit:
    """The command, on the log of a door's broker."""

    def __init__(
        self, door: Door, home: Path, capsys: pytest.CaptureFixture[str], begin: int = 0
    ) -> None:
        self.door = door
        self.home = home
        self.capsys = capsys
        self.begin = begin

    def rows(self, *options: str) -> list[Row]:
        """Return what it prints as JSON."""
        self.capsys.readouterr()
        command = ["broker", "audit-log", "--json", "--last", "5000", "--home", str(self.home)]
        assert main([*command, "--file", str(self.door.broker.log), *options]) == 0
        return list(map(json.loads, self.capsys.readouterr().out.splitlines()))

    def of(self, device_id: str) -> list[str]:
        """Return what happened to an id."""
        return [row["event"] for row in self.rows("--id", device_id)]

    def refusals(self) -> list[Row]:
        """Return who was refused."""
        return [row for row in self.rows("--refused") if row["event"] == "refused"]

    def await_one_more(self, act: Callable[[], object]) -> Row:
        """Return the refusal that comes of an act."""
        before = len(self.refusals())
        act()
        wait_until(lambda: len(self.refusals()) > before, seconds(20), "the refusal in the log")
        return self.refusals()[before]


@pytest.fixture
def audit(door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Ask what the door's broker has in its log."""
    return Audit(door, tmp_path, capsys)


def tells_of_handshakes(door: Door) -> bool:
    """Return whether a refusal in the TLS handshake is in the log; of that, and of who is put out,
    Mosquitto before 2.1 says nothing on WebSockets.
    """
    program = find_mosquitto()
    is_old = program is not None and program.version < (2, 1, 0)
    return not (door.broker.engine == "mosquitto" and door.websockets and is_old)


def serial_of(door: Door, device_id: str) -> str:
    return door.authority.inventory.entries("device", device_id)[-1].serial


def test_who_came_in_and_left(audit: Audit, door: Door) -> None:
    device_id = door.new_id("audited")
    credentials = door.credentials(device_id)
    with door.enter(device_id, credentials) as peer:
        wait_until(lambda: audit.of(device_id) == ["connected"], seconds(20), "the coming")
        peer.send(packet(DISCONNECT))
        peer.wait_closed()
    wait_until(lambda: len(audit.of(device_id)) == 2, seconds(20), "the leaving")
    came, left = audit.rows("--id", device_id)
    assert (came["event"], left["event"]) == ("connected", "disconnected")
    serial = serial_of(door, device_id) if door.broker.engine in _TELLS_SERIALS else None
    for row in (came, left):
        assert (row["address"], row["serial"], row["breaches"]) == ("127.0.0.1", serial, [])
        assert row["time"]


def test_who_was_refused_and_why(audit: Audit, door: Door, tmp_path: Path) -> None:
    if not tells_of_handshakes(door):
        pytest.skip("libwebsockets does not tell")

    def try_in(credentials: object) -> None:
        with suppress(Refused):
            door.peer(credentials).connect(VICTIM)  # type: ignore[arg-type]

    other = Authority.create(tmp_path / "other", passphrase=None)
    foreign = issued_credentials(tmp_path, other.issue_device(door.new_id("foreign")))
    revoked = door.new_id("revoked")
    revoked_credentials = door.credentials(revoked)
    door.revoke(revoked)
    found = [audit.await_one_more(lambda one=one: try_in(one)) for one in (None, foreign)]
    last = audit.await_one_more(lambda: try_in(revoked_credentials))
    assert {row["address"] for row in (*found, last)} == {"127.0.0.1"}
    assert "no certificate" in found[0]["reason"]
    assert "authority" in found[1]["reason"] or "not accepted" in found[1]["reason"]
    assert "revoked" in last["reason"]
    assert {row["id"] for row in found} == {None}
    if door.broker.engine == "hivemq":  # by its extension, which has seen the certificate
        assert (last["id"], last["serial"]) == (revoked, serial_of(door, revoked))


def test_who_was_put_out(audit: Audit, door: Door) -> None:
    if not tells_of_handshakes(door):
        pytest.skip("it is restarted")
    device_id = door.new_id("gone")
    with door.enter(device_id) as peer:
        wait_until(lambda: audit.of(device_id) == ["connected"], seconds(20), "the coming")
        door.revoke(device_id)
        peer.wait_closed()
    wait_until(lambda: len(audit.of(device_id)) > 1, seconds(20), "the putting out")
    rows = audit.rows("--id", device_id)
    assert [row["event"] for row in rows] == ["connected", "evicted"]
    assert "revoked" in rows[1]["reason"]
    assert rows[1]["address"] == "127.0.0.1"


@pytest.mark.parametrize("place", ["client id", "user name"])
def test_no_client_makes_a_line_of_another(audit: Audit, door: Door, place: str) -> None:
    device_id = door.new_id("liar")
    credentials = door.credentials(device_id)
    for said in HOSTILE:
        names = (said, None) if place == "client id" else (device_id, said)
        with suppress(Refused), door.peer(credentials) as peer:
            flags = 0x02 if names[1] is None else 0xC2
            body = field("MQTT") + struct.pack("!BBH", 4, flags, 60) + field(names[0])
            if names[1] is not None:
                body += field(names[1]) + field("password")
            peer.ask(packet(CONNECT, body), CONNACK)
    with door.enter(device_id, credentials):
        wait_until(lambda: "connected" in audit.of(device_id), seconds(20), "the last coming")
    rows = audit.rows()
    assert not [row for row in rows if row["id"] == VICTIM or row["address"] == "1.2.3.4"]
    for row in rows:
        text = "".join(str(value) for value in row.values())
        assert text.isprintable()
        assert len(text) < _LONGEST
    assert audit.rows("--id", VICTIM) == []


def test_two_with_one_identity_are_a_breach(audit: Audit, door: Door) -> None:
    """As where somebody has copied key and certificate."""
    if door.websockets:
        pytest.skip("the way in makes no difference")
    device_id = door.new_id("copied")
    credentials = door.credentials(device_id)
    context = door.context(credentials)
    body = field("MQTT") + struct.pack("!BBH", 4, 2, 3600) + field(device_id)
    for source in ("127.0.0.1", "127.0.0.2"):
        with (
            socket.create_connection(("127.0.0.1", door.port), seconds(20), (source, 0)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(packet(CONNECT, body))
            assert tls.recv(4)[3] == 0
    wait_until(lambda: audit.of(device_id).count("connected") == 2, seconds(20), "both")
    first, second = (row for row in audit.rows("--id", device_id) if row["event"] == "connected")
    assert first["breaches"] == []
    assert second["breaches"] == ["came from 127.0.0.1 as well, less than 5 minutes before"]
    command = ["broker", "audit-log", "--file", str(door.broker.log), "--home", str(audit.home)]
    assert main([*command, "--id", device_id]) == 0
    assert main([*command, "--id", device_id, "--check"]) == 1
    assert main([*command, "--id", door.new_id("nobody"), "--check"]) == 0
