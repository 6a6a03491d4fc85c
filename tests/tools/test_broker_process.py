"""The broker as a child process: it starts, keeps its port and its sessions, and never outlives its
parent.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import securemqtt_tools
from securemqtt import Client
from securemqtt.diagnosis import translate
from securemqtt.errors import ClientIdRefused
from securemqtt_tools.broker import BrokerConfig, BrokerProcess, child
from securemqtt_tools.broker.config import NotRenewedError
from securemqtt_tools.broker.mosquitto import connections, engine, eviction
from securemqtt_tools.broker.mosquitto.away import Presence
from securemqtt_tools.broker.mosquitto.eviction import Watch
from securemqtt_tools.broker.mosquitto.log import Log
from securemqtt_tools.broker.mosquitto.program import REWORKED_SINCE, find_mosquitto
from securemqtt_tools.broker.passwords import set_password
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.broker.rules import READ, Rule, Rules
from securemqtt_tools.broker.rules_file import write_rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.brokers.hivemq import hivemq_installed, require_hivemq
from support.brokers.mqtt import WAIT_S, Peer, Refused
from support.brokers.rabbitmq import require_rabbitmq
from support.network.net import wait_until
from support.packets import CONNECT, field, packet
from support.requirements import require_program
from support.speed import seconds

ENGINES = ["mosquitto", "amqtt"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make one of these tests' own: they count who has a rule, and other tests leave theirs."""
    return Authority.create(tmp_path_factory.mktemp("process") / "ca", passphrase=None)


@pytest.fixture
def config(tmp_path: Path, authority: Authority) -> BrokerConfig:
    return BrokerConfig.create(tmp_path / "broker", authority, names=["localhost"], port=0)


@pytest.fixture(params=[False, True], ids=["tls", "tls and wss"])
def door(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> Iterator[Door]:
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto", websockets=request.param) as opened:
        yield Door(opened.broker, authority, tmp_path)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_starts_where_python_has_no_prlimit(
    config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(resource, "prlimit")  # as on macOS
    with BrokerProcess(config.directory, engine="amqtt") as broker:
        assert listens(broker.port)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_log_is_for_its_owner_alone(config: BrokerConfig, engine: str) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    log = config.directory / "broker.log"
    for found in (None, 0o666):  # as an earlier version, under a wide umask, has left it
        if found is not None:
            log.chmod(found)
        before = os.umask(0)
        try:
            with BrokerProcess(config.directory, engine=engine) as broker:
                assert broker.log == log
        finally:
            os.umask(before)
        assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("engine", ENGINES)
def test_life(config: BrokerConfig, engine: str) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    broker = BrokerProcess(config.directory, engine=engine)
    assert not broker.running
    with broker:
        port = broker.port
        assert listens(port)
        pid = broker.pid
        broker.start()  # it runs already
        assert broker.pid == pid
        broker.restart()
        assert (broker.port, listens(port)) == (port, True)
        assert broker.pid != pid
        broker.kill()
        assert not listens(port)
        broker.start()
        assert (broker.port, listens(port)) == (port, True)
    assert not listens(port)
    assert BrokerConfig.open(config.directory).port == port
    broker.stop()  # it has ended already


def test_listens_on_the_named_address_only(door: Door) -> None:
    ports = {door.broker.port, door.broker.websockets_port} - {None}
    listening = [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    everywhere = {
        int(fields[1].split(":")[1], 16)
        for fields in listening
        if set(fields[1].split(":")[0]) == {"0"}
    }
    assert not ports & everywhere
    for port in ports:
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))  # still free there


def test_what_comes_while_a_device_is_away_waits_for_it(door: Door) -> None:
    """Also beside WebSockets: Mosquitto 2.0.12 to 2.0.22 lose it with per_listener_settings."""
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    with door.peer(credentials) as device:
        device.connect(device_id, clean=False)
        device.subscribe(f"devices/{device_id}/#")
    with door.enter("controller") as controller:
        for number in range(5):
            controller.publish(f"devices/{device_id}/command/n", b"%d" % number)
    with door.peer(credentials) as device:
        assert device.connect(device_id, clean=False) is True
        assert device.drain() == [(f"devices/{device_id}/command/n", b"%d" % n) for n in range(5)]


@pytest.mark.parametrize("websockets", [False, True], ids=["tls", "tls and wss"])
@pytest.mark.parametrize("how", ["reload", "end_tls_sessions"])
def test_what_comes_by_a_role_or_a_rule_waits_over_a_reload(
    authority: Authority, tmp_path: Path, how: str, websockets: bool
) -> None:
    """Mosquitto before 2.1 gives what is one user's alone, at a reload, to those who are connected:
    of what came to the others from then on all was lost, and acknowledged. Messages come all the
    time here. Who is connected stays so.
    """
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto", websockets) as door:
        device, hub, there = (door.new_id(one) for one in ("device", "hub", "there"))
        config = door.broker.config
        lines = (Rule("hubs", True, READ, "devices/#"), Rule(device, False, READ, "weather/#"))
        rules = Rules(1, {"hubs": frozenset({hub, there, door.new_id("never")})}, lines)
        write_rules(config.directory, rules)
        config.changed(roles={"controller": "operator"})
        door.broker.reload()
        away = {"controller": "devices/#", hub: f"devices/{device}/+"}
        made = {one: door.credentials(one) for one in away}
        with door.enter(there) as stays:
            for one, topic_filter in away.items():
                with Door(door.broker, authority, tmp_path).peer(made[one]) as peer:
                    peer.connect(one, clean=False)
                    peer.subscribe(topic_filter)
            with publishing(door, device) as sent:
                wait_until(lambda: len(sent) > 20)
                if how == "reload":
                    door.broker.reload()
                else:
                    door.broker.end_tls_sessions()
                before = len(sent)
                if not websockets:
                    wait_until(lambda: len(sent) > before + 20)
            if not websockets:  # there a reload is a restart before 2.1
                stays.drain()
        for one in away:
            with Door(door.broker, authority, tmp_path).peer(made[one]) as peer:
                assert peer.connect(one, clean=False) is True
                got: dict[bytes, None] = {}  # at a restart one may have come twice
                while len(got) < len(sent):
                    got[peer.receive()[1]] = None
                assert [*got] == sent


@contextmanager
def publishing(door: Door, device_id: str) -> Iterator[list[bytes]]:
    """Publish as a device for a block, one message after another, also over a restart; yield those
    that were acknowledged.
    """
    sent: list[bytes] = []
    ended = threading.Event()
    credentials = door.credentials(device_id)

    def run() -> None:
        while not ended.is_set():
            with suppress(Refused, OSError), door.enter(device_id, credentials) as peer:
                while not ended.is_set():
                    payload = b"%d" % len(sent)
                    peer.publish(f"devices/{device_id}/t", payload)
                    sent.append(payload)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join()


def test_a_device_with_the_longest_keep_alive_stays_connected(door: Door) -> None:
    """Mosquitto 2.0.21 drops it at the turn of a second where it asks for all that is allowed."""
    device_id = door.new_id()
    with door.peer(door.credentials(device_id)) as device:
        device.connect(device_id, keep_alive_s=door.broker.config.limits.keep_alive_s)
        until = time.monotonic() + 2.1
        while time.monotonic() < until:
            device.drain()


def test_a_keep_alive_that_is_too_long_is_answered_like_a_wrong_id(door: Door) -> None:
    """As Mosquitto does from 2.0.12 on; 2.0.11 takes any. Client has words for it."""
    limit_s = door.broker.config.limits.keep_alive_s
    assert limit_s == translate._BROKER_KEEP_ALIVE_S
    device_id = door.new_id()
    own = door.credentials(device_id)
    mosquitto = find_mosquitto()
    assert mosquitto is not None
    for keep_alive_s, welcome in ((limit_s, True), (65535, mosquitto.version < (2, 0, 12))):
        client = Client(
            host="localhost",
            port=door.port,
            client_id=device_id,
            ca=door.ca,
            certificate=own.certificate,
            key=own.key,
            keep_alive_s=keep_alive_s,
        )
        try:
            if welcome:
                client.connect(seconds(10))
            else:
                with pytest.raises(ClientIdRefused, match="asks for keep_alive_s=65535"):
                    client.connect(seconds(10))
        finally:
            client.disconnect(1)


def test_sessions_outlast_a_restart(door: Door) -> None:
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    with door.peer(credentials) as device:
        assert device.connect(device_id, clean=False) is False
        device.subscribe(f"devices/{device_id}/#")
    door.broker.restart()
    with door.enter("controller") as controller:
        controller.publish(f"devices/{device_id}/command/led", b"before")
        controller.publish(f"devices/{device_id}/command/led", b"kept", retain=True)
    door.broker.restart()
    with door.peer(credentials) as device:
        assert device.connect(device_id, clean=False) is True
        assert [device.receive()[1], device.receive()[1]] == [b"before", b"kept"]


def test_saving_each_change_survives_a_crash(authority: Authority, tmp_path: Path) -> None:
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        door.broker.config.changed(save_each_change=True)
        door.broker.restart()
        device_id = door.new_id()
        credentials = door.credentials(device_id)
        with door.peer(credentials) as device:
            device.connect(device_id, clean=False)
            device.subscribe(f"devices/{device_id}/#")
        with door.enter("controller") as controller:
            for number in range(20):
                controller.publish(f"devices/{device_id}/command/n", b"%d" % number)
            controller.drain()
        door.broker.kill()
        door.broker.start()
        with door.peer(credentials) as device:
            assert device.connect(device_id, clean=False) is True
            assert [device.receive()[1] for _ in range(20)] == [
                b"%d" % number for number in range(20)
            ]


@pytest.mark.parametrize("option", ["--port", "--websockets"])
@pytest.mark.parametrize(
    "engine",
    [*ENGINES, *(pytest.param(one, marks=pytest.mark.brokers) for one in ("hivemq", "rabbitmq"))],
)
def test_port_that_is_taken(config: BrokerConfig, engine: str, option: str) -> None:
    """Each broker has words of its own for it, or none."""
    if engine == "mosquitto":
        require_program("mosquitto")
    if engine == "rabbitmq":
        require_rabbitmq()
    with ExitStack() as stack:
        if engine == "hivemq":
            require_hivemq()
            stack.enter_context(hivemq_installed())
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        other = free_port("127.0.0.1")
        ports = (taken, None) if option == "--port" else (other, taken)
        config.changed(port=ports[0], websockets_port=ports[1])
        broker = BrokerProcess(config.directory, engine)
        said = (
            rf"^the broker does not start: another program has port {taken} \(.*\): end that one, "
            rf"or run securemqtt broker init --force with another {option} \(see /.*broker\.log\)$"
        )
        with pytest.raises(FatalError, match=said):
            broker.start()


@pytest.mark.parametrize("engine", ENGINES)
def test_damaged_certificate(config: BrokerConfig, engine: str) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    (config.directory / "server.pem").write_text("nonsense")
    broker = BrokerProcess(config.directory, engine=engine)
    with pytest.raises(FatalError, match=r"does not start: Error: .*load .*/server\.pem"):
        broker.start()
    assert not broker.running
    assert BrokerConfig.open(config.directory).port == 0


def test_who_is_connected_is_in_the_log(tmp_path: Path) -> None:
    at = "2026-11-30T00:00:00: "
    enters = "New client connected from {} as {} (p2, c0, k60, u'{}')."

    def come(*ids: str, where: str = "127.0.0.1:1") -> list[str]:
        return [enters.format(where, one, one) for one in ids]

    said = [
        *come("before"),
        "mosquitto version 2.0.11 starting",
        *come("stays", "left", "silent", "lost", "again", "full", "connection"),
        "New client connected from 127.0.0.1:1 as clean (p2, c1, k60, u'clean').",
        "Client clean disconnected.",
        *come("ours", where="/home/pi/.securemqtt/broker/eviction/socket:0"),
        "Client left disconnected.",
        "Client silent has exceeded timeout, disconnecting.",
        "Bad socket read/write on client lost: Connection reset by peer",
        "Client again already connected, closing old connection.",
        *come("again"),
        "Outgoing messages are being dropped for client full.",
        "Client connection from 127.0.0.1 failed: error:14094416.",
        "Received PUBLISH from x (d0, q1, r0, m1, 'a/: Client stays disconnected.', ... (1 bytes))",
    ]
    path = tmp_path / "log"
    path.write_text("".join(f"{at}{one}\n" for one in said))
    presence = Presence(Log(path))
    assert presence.is_known
    assert presence.absent(["left", "clean", "stays", "nobody"]) == ["left", "nobody"]
    assert presence.here == {"stays", "again", "full", "connection"}
    with path.open("a") as log:
        log.write(f"{at}Client full disconnected.\n{at}{come('late')[0]}\n{at}Client sta")
    presence.update()
    assert presence.here == {"stays", "again", "connection", "late"}


def test_more_than_can_be_looked_in_for_take_a_restart(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is forgotten where nobody would restart it."""
    require_program("mosquitto")
    monkeypatch.setattr(engine, "MOST_AWAY", 1)
    with open_door(authority, tmp_path, "mosquitto") as door:
        program = find_mosquitto()
        assert program is not None
        is_old = program.version < REWORKED_SINCE
        door.broker.config.changed(roles=dict.fromkeys(("a", "b"), "monitor"))
        assert door.broker.reload() is is_old
        for one in ("a", "b"):
            with door.peer(door.credentials(one)) as peer:
                peer.connect(one, clean=False)
                peer.disconnect()
        left = re.compile(r"Client [ab] (disconnected|\[)")
        wait_until(lambda: len(left.findall(door.broker.log.read_text())) >= 2)
        if is_old:
            with pytest.raises(FatalError, match="2 who have a role or a rule are away"):
                door.broker.end_tls_sessions()
        assert door.broker.reload() is is_old


def test_with_passwords_nothing_is_lost_for_sessions_from_the_disk(
    authority: Authority, tmp_path: Path
) -> None:
    """Before 2.1: to them a reload gives no lines, and nobody can enter them."""
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto", passwords=True) as door:
        program = find_mosquitto()
        assert program is not None
        is_old = program.version < REWORKED_SINCE
        device = door.new_id()
        file = door.broker.directory / "passwords"
        words = {one: set_password(file, one) for one in ("controller", "watcher", device)}
        made = {one: door.credentials(one) for one in words}
        door.broker.reload()

        def enter(one: str) -> Peer:
            peer = door.peer(made[one])
            peer.connect(one, clean=False, username=one, password=words[one])
            return peer

        with enter("controller") as peer:
            peer.subscribe("devices/#")
            peer.disconnect()
        door.broker.restart()
        if is_old:
            with pytest.raises(FatalError, match="2 who have a role or a rule have not come since"):
                door.broker.end_tls_sessions()
        assert door.broker.reload() is is_old
        with enter(device) as peer:
            for number in range(20):
                peer.publish(f"devices/{device}/t", b"%d" % number)
        for one in ("controller", "watcher"):
            with enter(one) as peer:
                if one == "controller":
                    assert [peer.receive()[1] for _ in range(20)] == [b"%d" % n for n in range(20)]
                peer.disconnect()
        assert door.broker.end_tls_sessions()
        assert door.broker.reload() is False


def test_each_of_many_reloads_is_taken_up(authority: Authority, tmp_path: Path) -> None:
    """Mosquitto forgets a SIGHUP that comes while it reads its files already."""
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        for _ in range(20):
            assert door.broker.end_tls_sessions()
            assert door.broker.reload() is False


def test_who_never_came_costs_no_restart(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up between reloads who of them has a session."""
    require_program("mosquitto")
    monkeypatch.setattr(engine, "MOST_AWAY", 1)
    with open_door(authority, tmp_path, "mosquitto") as door:
        ids = [door.new_id("never") for _ in range(7)]
        door.broker.config.changed(roles=dict.fromkeys(ids, "monitor"))
        door.broker.reload()
        log = door.broker.log
        for count in range(2):
            door.broker.keep_out()
            assert log.read_text().count("as never") in (0, 10 if count == 0 else 14)
        door.broker.config.changed(roles=dict.fromkeys(ids, "operator"))
        assert door.broker.reload() is False
        assert door.broker.end_tls_sessions()


def test_unknown_engine(config: BrokerConfig) -> None:
    with pytest.raises(FatalError, match="'rabbit' is no broker"):
        BrokerProcess(config.directory, engine="rabbit")


def test_mosquitto_is_missing_or_too_old(
    config: BrokerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\necho mosquitto version 1.5.7\n")
    program.chmod(0o755)
    monkeypatch.setenv("SECUREMQTT_MOSQUITTO", str(program))
    with pytest.raises(FatalError, match=r"1\.5\.7 is too old"):
        BrokerProcess(config.directory, engine="mosquitto")
    monkeypatch.setenv("SECUREMQTT_MOSQUITTO", "")
    with pytest.raises(FatalError, match="SECUREMQTT_MOSQUITTO is set to nothing"):
        BrokerProcess(config.directory, engine="mosquitto")
    monkeypatch.setenv("SECUREMQTT_MOSQUITTO", str(tmp_path / "nothing"))
    with pytest.raises(FatalError, match="cannot start"):
        BrokerProcess(config.directory)


def test_reload_without_a_broker(config: BrokerConfig) -> None:
    with pytest.raises(FatalError, match="is not running"):
        BrokerProcess(config.directory, engine="amqtt").reload()


def test_reload_moves_to_another_port(door: Door) -> None:
    broker = door.broker
    old = broker.port
    broker.config.changed(port=0)
    assert broker.reload() is True
    assert broker.port not in (0, old)
    assert listens(broker.port)
    assert not listens(old)


@pytest.mark.parametrize("engine", ENGINES)
def test_plain_reload_keeps_connections(authority: Authority, tmp_path: Path, engine: str) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    with open_door(authority, tmp_path, engine) as door, door.enter(door.new_id()) as peer:
        assert door.broker.reload() is False
        peer.drain()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reload_makes_it_ask_for_passwords(
    authority: Authority, tmp_path: Path, engine: str
) -> None:
    """Mosquitto reads the options of its listeners when it starts, and not again."""
    if engine == "mosquitto":
        require_program("mosquitto")
    with open_door(authority, tmp_path, engine) as door:
        credentials = door.credentials(device_id := door.new_id())
        with door.enter(device_id, credentials):
            pass
        door.broker.config.changed(passwords=True)
        door.broker.reload()
        with pytest.raises(Refused):
            door.enter(device_id, credentials).drop()
        door.broker.config.changed(passwords=False)
        door.broker.reload()
        with door.enter(device_id, credentials) as peer:
            door.revoke(device_id)
            peer.wait_closed()


def test_who_is_revoked_amid_a_reload_is_put_out_by_the_next(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        first, second = door.new_id(), door.new_id()
        read_anew = door.broker._child.read_anew

        def amid_it(word: re.Pattern[bytes], again_s: float | None = None) -> int:
            offset = read_anew(word, again_s)
            monkeypatch.undo()
            authority.revoke(second)
            door.broker.config.refresh(authority)
            return offset

        monkeypatch.setattr(door.broker._child, "read_anew", amid_it)
        with door.enter(first) as one, door.enter(second) as two:
            door.revoke(first)
            one.wait_closed()
            two.drain()
            assert door.broker.reload() is False
            two.wait_closed()


def test_the_way_to_put_devices_out_is_open_to_nobody_else(
    authority: Authority, tmp_path: Path
) -> None:
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        place = door.broker.directory / "eviction"
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert sorted(path.name for path in place.iterdir()) == ["socket", "trust.pem"]
        assert b"PRIVATE" not in (place / "trust.pem").read_bytes()
        device_id = door.new_id()
        context = door.context(door.credentials(device_id))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(seconds(20))
            plain.connect(str(place / "socket"))
            with pytest.raises(OSError, match=r"unknown ca|UNKNOWN_CA|EOF"):
                context.wrap_socket(plain, server_hostname="localhost")
        with door.enter(device_id) as peer:
            door.revoke(device_id)
            peer.wait_closed()
        assert sorted(path.name for path in place.iterdir()) == ["socket", "trust.pem"]


def test_after_a_crash_one_is_put_out_as_before(authority: Authority, tmp_path: Path) -> None:
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        door.broker.kill()
        door.broker.start()
        device_id, other_id = door.new_id(), door.new_id()
        with door.enter(device_id) as peer, door.enter(other_id) as other:
            door.revoke(device_id)
            peer.wait_closed()
            other.drain()


def test_where_the_log_was_moved_away_it_is_restarted(authority: Authority, tmp_path: Path) -> None:
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        log, away = door.broker.log, tmp_path / "away.log"
        device_id, other_id = door.new_id(), door.new_id()
        with door.enter(device_id) as peer, door.enter(other_id) as other:
            log.rename(away)
            door.revoke(device_id)
            peer.wait_closed()
            other.wait_closed()
        with door.enter(other_id) as other:
            door.revoke(other_id)
            other.wait_closed()
            log.rename(away)
            assert door.broker.keep_out() is True  # who comes in late could not be seen
            assert door.broker.keep_out() is False


def test_who_was_revoked_is_out_though_the_log_is_silent(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        log = door.broker.log
        with door.enter(device_id := door.new_id()) as peer:
            log.rename(tmp_path / "away.log")
            log.write_bytes(b"")
            door.revoke(device_id)
            peer.wait_closed()
        monkeypatch.setattr(child, "ANSWER_S", 0.0)
        monkeypatch.setattr(engine, "RELOADED", re.compile(b"what it never says"))
        with door.enter(device_id := door.new_id()) as peer:
            with pytest.raises(FatalError, match="did not reload"):
                door.revoke(device_id)
            peer.wait_closed()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_failed_reload_has_not_taken_up_the_next_one_does(
    authority: Authority, tmp_path: Path, engine: str
) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    with open_door(authority, tmp_path, engine) as door:
        credentials = door.credentials(device_id := door.new_id())
        crl = door.broker.directory / "crl.pem"
        sound = crl.read_bytes()
        door.broker.config.changed(passwords=True)
        crl.write_bytes(b"half a file")
        with pytest.raises(FatalError, match=r"crl\.pem is damaged"):
            door.broker.reload()
        crl.write_bytes(sound)
        assert door.broker.reload() is True
        with pytest.raises(Refused):
            door.enter(device_id, credentials).drop()


def test_ids_that_cannot_be_read_take_a_restart(authority: Authority, tmp_path: Path) -> None:
    """As amid a copy of the files to a broker elsewhere."""
    require_program("mosquitto")
    with (
        open_door(authority, tmp_path, "mosquitto") as door,
        door.enter(device_id := door.new_id()) as peer,
    ):
        authority.revoke(device_id)
        door.broker.config.refresh(authority)
        (door.broker.directory / "revoked.json").write_text('{"half')
        assert door.broker.reload() is True
        peer.wait_closed()


def test_a_certificate_that_cannot_be_renewed_keeps_no_revocation_back(tmp_path: Path) -> None:
    own = Authority.create(tmp_path / "ca", passphrase=b"the right one")
    config = BrokerConfig.create(tmp_path / "broker", own, names=["localhost"], port=0)
    issued = own.issue_device("lost")
    own.revoke("lost")
    own.revoke("localhost", role="server")
    own.crl_pem()
    with pytest.raises(NotRenewedError, match="the certificate is shown as it was: "):
        config.refresh(Authority.open(tmp_path / "ca", b"the wrong one"))
    serial = issued.certificate.serial_number
    assert config.crl().get_revoked_certificate_by_serial_number(serial) is not None


def test_nobody_knows_who_may_still_come_in_where_the_kernel_does_not_tell(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(1000 * b"17: New client connected from 127.0.0.1:4711 as lost (p2, c1, k60).\n")
    watch = Watch(Log(log), ())
    watch.begin({"lost"}, 0)
    assert watch.entered() == {"lost"}
    assert watch.prolong() is None


def test_a_directory_with_a_blank_in_its_name(authority: Authority, tmp_path: Path) -> None:
    """At which Mosquitto ends the path of a socket, of no other file."""
    require_program("mosquitto")
    (place := tmp_path / "John Doe").mkdir()
    with open_door(authority, place, "mosquitto") as door:
        device_id = door.new_id()
        with door.enter(device_id) as peer:
            door.revoke(device_id)
            peer.wait_closed()
        assert [path.name for path in tmp_path.iterdir()] == [place.name]


def opened_from(address: tuple[str, int], to: tuple[str, int]) -> socket.socket:
    """Open a connection from an address and port (0: any), which may be in use for another one."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    plain.settimeout(WAIT_S)
    plain.bind(address)
    plain.connect(to)
    return plain


@contextmanager
def holding(door: Door, device_id: str) -> Iterator[ssl.SSLSocket]:
    """Show a device's certificate, and say nothing yet."""
    context = door.context(door.credentials(device_id))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the client knows when it is over
    plain = opened_from(("127.0.0.1", 0), ("127.0.0.1", door.port))
    with context.wrap_socket(plain, server_hostname="localhost") as tls:
        yield tls


def connect_packet(device_id: str, will: bytes = b"") -> bytes:
    """Return a CONNECT, with a will if it is to be long."""
    said = field(f"devices/{device_id}/will") + len(will).to_bytes(2, "big") + will if will else b""
    flags = 6 if will else 2
    return packet(CONNECT, field("MQTT") + bytes([4, flags, 0, 60]) + field(device_id) + said)


def ends(door: Door, tls: ssl.SSLSocket) -> bool:
    """Have the broker keep out who was revoked; return True once this connection has ended."""
    tls.settimeout(seconds(5))
    for _ in range(100):
        door.broker.keep_out()
        tls.settimeout(seconds(0.05))
        try:
            if not tls.recv(100):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.fixture
def wide_door(authority: Authority, tmp_path: Path) -> Iterator[Door]:
    """Run Mosquitto on all addresses of this computer."""
    require_program("mosquitto")
    directory = tmp_path / "broker"
    BrokerConfig.create(directory, authority, names=["localhost"], port=0, bind="0.0.0.0")  # noqa: S104
    with BrokerProcess(directory, engine="mosquitto") as broker:
        yield Door(broker, authority, tmp_path)


def test_a_port_that_is_used_twice_lets_nobody_in(wide_door: Door) -> None:
    """A revoked device holds a connection, and opens another from the same port: to the log both
    are one.
    """
    door = wide_door
    lost = door.new_id()
    with holding(door, lost) as tls:
        door.revoke(lost)
        with opened_from(tls.getsockname(), ("127.0.0.2", door.port)):
            log = door.broker.log
            origin = f"New connection from 127.0.0.1:{tls.getsockname()[1]} "
            wait_until(lambda: log.read_text().count(origin) == 2, what="both in the log")
            tls.sendall(connect_packet(lost))
            assert ends(door, tls)


def test_a_port_that_was_used_twice_before_lets_nobody_in(wide_door: Door) -> None:
    """By the other connection the device had entered, and left; the log says that one is in."""
    door = wide_door
    lost = door.new_id()
    with holding(door, lost) as tls:
        context = door.context(door.credentials(lost))
        other = opened_from(tls.getsockname(), ("127.0.0.2", door.port))
        with context.wrap_socket(other, server_hostname="localhost") as second:
            second.sendall(connect_packet(lost))
            assert second.recv(4) == b" \2\0\0"
        wait_until(lambda: door.broker.log.read_text().count(f"Client {lost} ") >= 1)
        door.revoke(lost)
        tls.sendall(connect_packet(lost))
        assert ends(door, tls)


@pytest.mark.parametrize("known", [True, False], ids=["Linux", "elsewhere"])
def test_a_connect_that_comes_bit_by_bit_lets_nobody_in(
    wide_door: Door, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    door = wide_door
    if known:
        monkeypatch.setattr(eviction, "_HALF_OPEN_S", 0.0)  # it outlasts any time
    else:
        monkeypatch.setattr(connections, "_TABLES", ())
    lost = door.new_id()
    whole = connect_packet(lost, b"x" * 5000)
    with holding(door, lost) as tls:
        tls.sendall(whole[:100])
        door.revoke(lost)
        assert door.broker.keep_out() is False
        assert door.broker.keep_out() is False
        tls.sendall(whole[100:])
        assert ends(door, tls)


def test_a_newer_certificate_of_a_revoked_id_stays_in(wide_door: Door) -> None:
    door = wide_door
    lost, other = door.new_id(), door.new_id()
    with holding(door, lost), door.enter(other) as old:
        door.revoke(lost)
        with door.enter(lost) as again:
            assert door.broker.keep_out() is False
            again.drain()
            old.drain()


def test_the_watch_ends_with_the_connections_of_before(
    wide_door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eviction, "_HALF_OPEN_S", 0.0)
    door = wide_door
    lost, pump = door.new_id(), door.new_id()

    def is_over() -> bool:
        assert door.broker.keep_out() is False
        return door.broker._engine._watch is None

    with door.enter(pump) as other:  # which has entered long ago, and is no reason to look on
        with holding(door, lost):
            door.revoke(lost)
            assert not is_over()
        wait_until(is_over, what="the end of the watch")
        other.drain()


def test_many_at_once_take_a_restart(authority: Authority, tmp_path: Path) -> None:
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        for count, restarts in ((20, False), (21, True)):
            ids = [door.new_id() for _ in range(count)]
            for device_id in ids:
                door.authority.issue_device(device_id)
                door.authority.revoke(device_id)
            door.broker.config.refresh(door.authority)
            assert door.broker.reload() is restarts


def test_reloads_while_kept_sessions_wait(authority: Authority, tmp_path: Path) -> None:
    """With persistent_client_expiration Mosquitto 2.0.11 enters each session that waits into its
    list of expiries once more at a reload, and crashes soon after its device's return.
    """
    require_program("mosquitto")
    with open_door(authority, tmp_path, "mosquitto") as door:
        devices = [door.new_id() for _ in range(3)]
        credentials = {device_id: door.credentials(device_id) for device_id in devices}
        for _ in range(5):
            for _ in range(4):
                with ExitStack() as stack:
                    for device_id in devices:
                        device = stack.enter_context(door.peer(credentials[device_id]))
                        device.connect(device_id, clean=False)
                        device.subscribe(f"devices/{device_id}/command/#")
                        device.publish(f"devices/{device_id}/x", b"y" * 50, retain=True)
                        device.publish(f"devices/{device_id}/command/x", b"y" * 50)
                        device.drain()
            time.sleep(1.1)  # Mosquitto looks at what has expired once a second
            assert door.broker.running
            assert door.broker.reload() is False


def test_a_broker_started_by_a_thread_outlives_the_thread(config: BrokerConfig) -> None:
    require_program("mosquitto")
    broker = BrokerProcess(config.directory, engine="mosquitto")
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()
    try:
        with pytest.raises(AssertionError):
            wait_until(lambda: not broker.running, timeout_s=0.3)
        assert listens(broker.port)
    finally:
        broker.stop()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_broker_ends_with_its_parent(
    config: BrokerConfig, engine: str, end: signal.Signals
) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    code = (
        "import sys, time; from pathlib import Path; from securemqtt_tools.broker import "
        "BrokerProcess\n"
        "broker = BrokerProcess(Path(sys.argv[1]), engine=sys.argv[2]); broker.start()\n"
        "print(broker.pid, broker.port, flush=True); time.sleep(60)"
    )
    tools = str(Path(securemqtt_tools.__file__).parents[1])
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(config.directory), engine],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": tools},
    )
    try:
        assert parent.stdout is not None
        pid, port = map(int, parent.stdout.readline().split())
        assert listens(port)
    finally:
        parent.send_signal(end)
        parent.communicate(timeout=seconds(20))
    wait_until(lambda: not listens(port), what="the end of the broker")
    wait_until(
        lambda: (
            not Path(f"/proc/{pid}/cmdline").exists()
            or not Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    )


def test_each_broker_has_a_port_of_its_own(
    config: BrokerConfig, authority: Authority, tmp_path: Path
) -> None:
    other = BrokerConfig.create(
        tmp_path / "other", authority, names=["localhost"], port=0, websockets_port=0
    )
    with (
        BrokerProcess(config.directory, "amqtt") as first,
        BrokerProcess(other.directory, "amqtt") as second,
    ):
        ports = [first.port, second.port, second.websockets_port]
        assert len(set(ports)) == 3
