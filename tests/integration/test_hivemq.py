"""HiveMQ CE with our files and our extension, judged by delivery: what tests/security/, which asks
the same of every broker, does not ask.
"""

from __future__ import annotations

import itertools
import resource
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt import Client, Message
from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.hivemq.build import EXTENSION
from securemqtt_tools.broker.hivemq.engine import FOLDER
from securemqtt_tools.broker.rules import DENY, READ, WRITE, Rule, Rules
from securemqtt_tools.broker.rules_file import read_rules, write_rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from support.brokers.command import broker_run
from support.brokers.doors import Door, open_door
from support.brokers.hivemq import hivemq_installed, java_agent, require_hivemq
from support.brokers.home import Home
from support.brokers.mqtt import Peer, delivered
from support.identities.bundles import write_bundle
from support.interpreters.micropython import micropython_command, micropython_environment
from support.network.net import wait_until
from support.packets import CONNACK, CONNECT, PINGREQ, PINGRESP, PUBACK, PUBLISH, field, packet
from support.speed import seconds

_numbers = itertools.count()
WAIT_S = seconds(20)
pytestmark = [pytest.mark.xdist_group("hivemq-alone"), pytest.mark.brokers]


@pytest.fixture(params=[False, True], ids=["tls", "wss"])
def door(
    request: pytest.FixtureRequest,
    hivemq: BrokerProcess,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Door:
    """Enter it by one of both."""
    return Door(hivemq, authority, tmp_path_factory.mktemp("door"), request.param)


@pytest.fixture
def own_door(
    hivemq: BrokerProcess, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Door:
    """Enter it by TLS, where the transport makes no difference."""
    return Door(hivemq, authority, tmp_path_factory.mktemp("door"))


def new_id(name: str) -> str:
    """Return an id that no other test uses."""
    return f"hivemq-{name}-{next(_numbers)}"


def set_rules(door: Door, groups: dict[str, set[str]], *lines: Rule) -> None:
    """Put these rules in the place of those before."""
    number = read_rules(door.broker.directory).number + 1
    members = {group: frozenset(ids) for group, ids in groups.items()}
    write_rules(door.broker.directory, Rules(number, members, lines))
    door.broker.reload()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_five_lines(door: Door, qos: int) -> None:
    """Our own Client publishes and is commanded."""
    device_id = new_id("five")
    options = {"transport": "wss"} if door.websockets else {}
    bundle = write_bundle(
        door.directory / device_id, door.authority, device_id, port=door.port, **options
    )
    got: list[tuple[str, str]] = []

    def take(message: Message) -> None:
        got.append((message.topic, message.text()))

    with door.enter("controller") as controller:
        controller.subscribe(f"devices/{device_id}/temperature", qos)
        client = Client(bundle)
        client.subscribe("~/command/+", take, qos=qos)
        with client:
            client.publish("~/temperature", {"celsius": 21.5}, qos=qos)
            topic, payload = controller.receive()
            assert (topic, payload) == (f"devices/{device_id}/temperature", b'{"celsius": 21.5}')
            controller.publish(f"devices/{device_id}/command/led", b"on", qos)
            deadline = time.monotonic() + WAIT_S
            while not got and time.monotonic() < deadline:
                client.wait(0.1)
    assert got == [(f"devices/{device_id}/command/led", "on")]


_BOARD = """\
import sys
from securemqtt import Client
client = Client(sys.argv[1])
got = []
client.subscribe("~/command/+", lambda message: got.append(message.text()), qos=1)
with client:
    client.publish("~/temperature", {"celsius": 21.5})
    while not got:
        client.wait(0.1)
print(got)
"""


def test_the_five_lines_on_micropython(own_door: Door, tmp_path: Path) -> None:
    device_id = new_id("board")
    bundle = write_bundle(
        tmp_path / device_id, own_door.authority, device_id, port=own_door.port, board=True
    )
    program = tmp_path / "main.py"
    program.write_text(_BOARD)
    with own_door.enter("controller") as controller:
        controller.subscribe(f"devices/{device_id}/#")
        board = subprocess.Popen(
            [*micropython_command(), str(program), str(bundle)],
            env=micropython_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            topics = {controller.receive()[0], controller.receive()[0]}
            assert topics == {f"devices/{device_id}/{one}" for one in ("status", "temperature")}
            controller.publish(f"devices/{device_id}/command/led", b"on")
            said, _ = board.communicate(timeout=WAIT_S)
        finally:
            board.kill()
            board.wait()
    assert said.splitlines()[-1] == "['on']"


def test_the_command_takes_up_what_commands_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/hivemq.md has it."""
    require_hivemq()
    device_id, bundle = new_id("told"), tmp_path / "bundle"
    with hivemq_installed():
        home = Home(tmp_path / "home", capsys, broker=False)
        home.good("broker", "init", "localhost", "--for", "hivemq", "--port", str(home.port))
        with broker_run(home.directory) as process:
            options = ("--id", device_id, "--broker", "localhost", "--out", bundle)
            home.good("provision", "pi", *options)
            with Client(bundle) as client:
                wait_until(lambda: (client.wait(0.01), client.connected)[1], WAIT_S)
                home.good("ca", "revoke", device_id)
                home.good("broker", "reload")
                wait_until(lambda: (client.wait(0.01), not client.connected)[1], WAIT_S)
            assert process.stdout is not None
            assert process.stdout.readline() == "Reloaded.\n"
    assert "Shutdown completed" in (home.broker / "broker.log").read_text()


def test_what_is_retained_comes_to_who_subscribes_later(door: Door) -> None:
    device_id = new_id("retained")
    topic = f"devices/{device_id}/status"
    with door.enter(device_id) as device:
        device.publish(topic, b"kept", retain=True)
    with door.enter("controller") as controller:
        controller.subscribe(topic)
        assert controller.receive() == (topic, b"kept")


def test_a_kept_session_gets_what_came_meanwhile(door: Door) -> None:
    device_id = new_id("kept")
    credentials, topic = door.credentials(device_id), f"devices/{device_id}/command/led"
    with door.peer(credentials) as peer:
        assert peer.connect(device_id, clean=False) is False
        peer.subscribe(topic)
    with door.enter("controller") as controller:
        controller.publish(topic, b"1")
        controller.publish(topic, b"2", 2)
    with door.peer(credentials) as peer:
        assert peer.connect(device_id, clean=False) is True
        assert [peer.receive()[1], peer.receive()[1]] == [b"1", b"2"]


def test_a_will_comes_only_if_it_may_be_published_then(own_door: Door) -> None:
    """It was allowed at CONNECT both times."""
    device_id = new_id("will")
    topic = f"weather/{device_id}/gone"
    writes = Rule(device_id, False, WRITE, "weather/#")
    reads = Rule("controller", False, READ, "weather/#")
    with own_door.enter("controller") as controller:
        for comes in (True, False):
            set_rules(own_door, {}, writes, reads)
            controller.subscribe("weather/#")
            device = own_door.peer(own_door.credentials(device_id))
            device.connect(device_id, will=(topic, b"died"), will_retain=False)
            if not comes:
                set_rules(own_door, {}, reads, Rule(device_id, False, DENY, "weather/#"))
            device.drop()
            if comes:
                assert controller.receive() == (topic, b"died")
        # A second one that may comes behind the first, had that come.
        other = new_id("will")
        device = own_door.peer(own_door.credentials(other))
        device.connect(other, will=(f"devices/{other}/gone", b"died"), will_retain=False)
        controller.subscribe(f"devices/{other}/#")
        device.drop()
        assert controller.receive() == (f"devices/{other}/gone", b"died")
    set_rules(own_door, {})


def test_a_will_that_may_not_be_published_keeps_nobody_out(own_door: Door) -> None:
    device_id, victim = new_id("will"), new_id("victim")
    with own_door.enter(victim) as target:
        target.subscribe(f"devices/{victim}/#")
        with own_door.peer(own_door.credentials(device_id)) as device:
            device.connect(device_id, will=(f"devices/{victim}/gone", b"forged"))
            device.subscribe(f"devices/{device_id}/#")
            device.publish(f"devices/{device_id}/t", b"in")
            assert device.receive() == (f"devices/{device_id}/t", b"in")
        assert delivered(target, target, f"devices/{victim}/t") == []


def test_what_may_not_be_published_does_not_end_the_connection(own_door: Door) -> None:
    """With QoS 1 and 2 it would come again and again, with each connection."""
    device_id = new_id("talker")
    with own_door.enter(device_id) as device:
        for qos in (0, 1, 2):
            device.publish("not/mine", b"x", qos)
        device.subscribe(f"devices/{device_id}/#")
        device.publish(f"devices/{device_id}/t", b"still here")
        assert device.receive() == (f"devices/{device_id}/t", b"still here")


@pytest.mark.parametrize("method", [b"", b"\x15" + field("SCRAM-SHA-1")], ids=["plain", "enhanced"])
def test_mqtt_5_is_another_way_to_the_same_door(own_door: Door, method: bytes) -> None:
    """HiveMQ speaks it too; a method of authentication that is named there changes nothing: the
    certificate counts.
    """
    device_id, victim = new_id("five"), new_id("victim")
    credentials = own_door.credentials(device_id)

    def connect(peer: Peer) -> int:
        """Connect as the victim; return the reason code."""
        head = field("MQTT") + bytes([5, 2, 0, 60, len(method)]) + method
        return peer.ask(packet(CONNECT, head + field(victim)), CONNACK).body[1]

    with own_door.enter(victim) as target:
        target.subscribe(f"devices/{victim}/#")
        with own_door.peer(credentials) as peer:
            assert connect(peer) == 0  # as itself
            forged = field(f"devices/{victim}/t") + b"\x00\x01\x00forged"
            answered = peer.ask(packet(PUBLISH | 2, forged), PUBACK)
            assert answered.body[2] == 0x87  # not authorized
        assert delivered(target, target, f"devices/{victim}/t") == []  # and is still there
        own_door.revoke(device_id)
        with own_door.peer(credentials) as peer:
            assert connect(peer) >= 0x80


def test_a_changed_certificate_is_shown_while_connections_stand(
    hivemq: BrokerProcess, authority: Authority, own_door: Door
) -> None:
    device_id = new_id("there")
    context = own_door.context(own_door.credentials(device_id))
    assert hivemq.websockets_port is not None

    def shown(port: int) -> bytes | None:
        with (
            socket.create_connection(("127.0.0.1", port), WAIT_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(binary_form=True)

    with own_door.enter(device_id) as peer:
        before = shown(hivemq.port)
        hivemq.config.renew_certificate(authority)
        newest = hivemq.config.server_certificate().public_bytes(Encoding.DER)
        hivemq.reload()
        alive(peer)
    assert before != newest
    assert [shown(port) for port in (hivemq.port, hivemq.websockets_port)] == [newest] * 2


def alive(peer: Peer) -> None:
    """Fail unless the broker answers on this connection."""
    peer.ask(packet(PINGREQ), PINGRESP)


def test_a_revocation_interrupts_nobody_else(hivemq: BrokerProcess, own_door: Door) -> None:
    """Not even one message."""
    with ExitStack() as stack:
        others = [new_id("other") for _ in range(10)]
        peers = [stack.enter_context(own_door.enter(one)) for one in others]
        for one, peer in zip(others, peers, strict=True):
            peer.subscribe(f"devices/{one}/#")
        gone = new_id("gone")
        peer = stack.enter_context(own_door.enter(gone))
        own_door.revoke(gone)
        peer.wait_closed()
        for one, peer in zip(others, peers, strict=True):
            peer.publish(f"devices/{one}/t", b"here")
            assert peer.receive() == (f"devices/{one}/t", b"here")
    said = hivemq.log.read_text()
    assert f"put out {gone} from 127.0.0.1" in said
    assert "its certificate has been revoked" in said


def test_a_damaged_file_of_rules_changes_nothing(hivemq: BrokerProcess, own_door: Door) -> None:
    reader, writer = new_id("reader"), new_id("writer")
    path = hivemq.directory / FOLDER / "extensions" / EXTENSION / "access"
    set_rules(
        own_door,
        {},
        Rule(reader, False, READ, "weather/#"),
        Rule(writer, False, WRITE, "weather/#"),
    )
    whole = path.read_bytes()
    damages: list[Callable[[bytes], bytes]] = [
        lambda text: text[: len(text) // 2],
        lambda text: b"",
        lambda text: text.replace(b"deny", b"").replace(b"read", b"raed"),
        lambda text: text.replace(b"\nend", b"\n\xff\nend"),
    ]
    try:
        with own_door.enter(reader) as peer, own_door.enter(writer) as other:
            peer.subscribe("weather/#")
            for damage in damages:
                begin = hivemq.log.stat().st_size
                path.write_bytes(damage(whole))
                wait_until(
                    lambda begin=begin: (  # type: ignore[misc]
                        b"securemqtt: rules not taken up" in hivemq.log.read_bytes()[begin:]
                    ),
                    WAIT_S,
                    "that the file is refused",
                )
                other.publish("weather/now", b"sun")
                assert peer.receive() == ("weather/now", b"sun")
    finally:
        path.write_bytes(whole)
        set_rules(own_door, {})


def test_a_file_that_cannot_be_read_for_a_moment_is_read_then(
    hivemq: BrokerProcess, own_door: Door
) -> None:
    """Else a revocation that it brings would never hold."""
    gone = new_id("gone")
    assert hivemq.pid is not None
    limits = resource.prlimit(hivemq.pid, resource.RLIMIT_NOFILE)
    with own_door.enter(gone) as peer, ThreadPoolExecutor(1) as pool:
        begin = hivemq.log.stat().st_size
        resource.prlimit(hivemq.pid, resource.RLIMIT_NOFILE, (1, limits[1]))
        try:
            revoked = pool.submit(own_door.revoke, gone)
            wait_until(
                lambda: b"Too many open files" in hivemq.log.read_bytes()[begin:],
                WAIT_S,
                "that it cannot read its rules",
            )
        finally:
            resource.prlimit(hivemq.pid, resource.RLIMIT_NOFILE, limits)
        revoked.result()
        peer.wait_closed()


_AT_MOST_ONE_CALL_A_SECOND = """\
public final class Agent {
    public static void premain(String ignored) {
        com.hivemq.configuration.service.InternalConfigurations
                .EXTENSION_SERVICE_CALL_RATE_LIMIT_PER_SEC.set(1);
    }
}
"""


def test_who_cannot_be_put_out_at_once_is_put_out_then(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HiveMQ fails calls of its extensions beyond a number of them, if it is told one."""
    require_hivemq()
    agent = java_agent(tmp_path, _AT_MOST_ONE_CALL_A_SECOND)
    monkeypatch.setenv("JDK_JAVA_OPTIONS", f"-javaagent:{agent}")
    with open_door(authority, tmp_path, "hivemq") as door, ExitStack() as stack:
        gone = [new_id("gone") for _ in range(3)]
        peers = [stack.enter_context(door.enter(one)) for one in gone]
        for one in gone:
            authority.revoke(one)
        door.update()
        for peer in peers:
            peer.wait_closed()
        assert "RateLimitExceededException" in door.broker.log.read_text()


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
@pytest.mark.parametrize("denied", [False, True], ids=["taken", "denied"])
def test_who_may_not_read_gets_nothing_of_a_group(own_door: Door, denied: bool, away: bool) -> None:
    """What it got would be lost to all: it is the one that is there while there is work."""
    loser, worker, hub = new_id("loser"), new_id("worker"), new_id("hub")
    reads = [Rule(one, False, READ, "jobs/#") for one in (loser, worker)]
    keeps = Rule(loser, False, READ, "news/#")
    writes = [Rule(hub, False, WRITE, one) for one in ("jobs/#", "news/#")]
    shared = f"$share/{loser}/jobs/#"
    credentials, others = own_door.credentials(loser), own_door.credentials(worker)
    set_rules(own_door, {}, keeps, *reads, *writes)
    with ExitStack() as stack:
        first = stack.enter_context(own_door.peer(credentials))
        first.connect(loser, clean=False)
        second = stack.enter_context(own_door.peer(others))
        second.connect(worker, clean=False)
        sender = stack.enter_context(own_door.enter(hub))
        for peer in (first, second):
            assert peer.subscribe(shared) == 1
        assert first.subscribe("news/#") == 1
        if away:
            first.disconnect()
        changed = [*reads, Rule(loser, False, DENY, "+/#")] if denied else reads[1:]
        set_rules(own_door, {}, *changed, *writes)
        if away:
            first = stack.enter_context(own_door.peer(credentials))
            assert first.connect(loser, clean=False) is True
        second.disconnect()
        sent = [b"%d" % number for number in range(20)]
        for payload in sent:
            sender.publish("jobs/n", payload)
        second = stack.enter_context(own_door.peer(others))
        assert second.connect(worker, clean=False) is True
        assert sorted(second.receive()[1] for _ in sent) == sorted(sent)
        # What was not shared comes again with the right, as with Mosquitto.
        set_rules(own_door, {}, keeps, *reads, *writes)
        sender.publish("news/now", b"x")
        assert first.receive() == ("news/now", b"x")
        assert first.subscribe(shared) == 1
    set_rules(own_door, {})


def test_nothing_that_it_reads_is_open_to_others(hivemq: BrokerProcess) -> None:
    home = hivemq.directory / FOLDER
    written = [home / "server.p12", home / "trust.p12", home / "password"]
    written += [home / "conf" / "config.xml", home / "conf" / "logback.xml"]
    written += sorted((home / "extensions" / EXTENSION).iterdir())
    assert [one.stat().st_mode & 0o077 for one in written] == [0] * len(written)
    password = (home / "password").read_text()
    assert password not in hivemq.log.read_text()
    assert hivemq.pid is not None
    assert password.encode() not in Path(f"/proc/{hivemq.pid}/cmdline").read_bytes()


def test_what_was_queued_outlasts_a_restart(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    require_hivemq()
    directory = tmp_path_factory.mktemp("restart")
    BrokerConfig.create(
        directory / "broker",
        authority,
        names=["localhost", "127.0.0.1"],
        port=0,
        roles={"controller": "operator"},
    )
    device_id = new_id("sleeper")
    topic = f"devices/{device_id}/command/led"
    with hivemq_installed(), BrokerProcess(directory / "broker", engine="hivemq") as broker:
        door = Door(broker, authority, directory)
        credentials = door.credentials(device_id)
        with door.peer(credentials) as peer:
            peer.connect(device_id, clean=False)
            peer.subscribe(topic)
        with door.enter("controller") as controller:
            controller.publish(topic, b"on")
        broker.restart()
        with door.peer(credentials) as peer:
            assert peer.connect(device_id, clean=False) is True
            assert peer.receive() == (topic, b"on")


def test_passwords_are_refused_in_words(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="hivemq lets in by certificate alone"):
        BrokerConfig.create(
            tmp_path, authority, names=["localhost"], port=1, passwords=True, engine="hivemq"
        )
    assert not tmp_path.joinpath("broker.json").exists()
    BrokerConfig.create(tmp_path, authority, names=["localhost"], port=1, passwords=True)
    with pytest.raises(FatalError, match="hivemq lets in by certificate alone"):
        BrokerProcess(tmp_path, engine="hivemq")
