"""What TLS on CPython can do beyond a board's: sessions resumed, WebSockets, ALPN, encrypted keys;
and the deadlines of an attempt.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt import Client
from securemqtt.errors import (
    ConnectionLost,
    NameNotResolved,
    ProtocolRefused,
    TimedOut,
    UsageError,
)
from securemqtt.transport import paho, stream_openssl
from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.brokers.scripted import ScriptedBroker
from support.identities.bundles import write_bundle
from support.network.net import wait_until
from support.network.proxy import Proxy
from support.packets import CONNECT, PUBACK, PUBLISH, answer, publish
from support.speed import seconds, slowness

_numbers = itertools.count()
# What should last a second at most is over by then, and what has no such bound lasts a multiple.
LATE_S = seconds(5)

Make = Callable[..., Client]


@pytest.fixture
def bundle(authority: Authority, broker: BrokerProcess, tmp_path: Path) -> Path:
    return write_bundle(
        tmp_path / "bundle", authority, f"transport-{next(_numbers)}", port=broker.port
    )


@pytest.fixture
def make(bundle: Path) -> Iterator[Make]:
    """Make clients that are closed at the end."""
    clients = []

    def new(**options: Any) -> Client:
        client = Client(str(bundle), **options)
        clients.append(client)
        return client

    yield new
    for client in clients:
        client._connection.stop()


@pytest.fixture
def scripted(authority: Authority, tmp_path: Path) -> Iterator[ScriptedBroker]:
    with ScriptedBroker(tmp_path / "scripted", authority) as running:
        yield running


def resumed(client: Client) -> bool:
    """Return True if the handshake of the current connection was a resumed one."""
    return bool(client._connection.link._stream._tls.session_reused)  # type: ignore[attr-defined]


def connected_anew(client: Client, connects: int) -> None:
    wait_until(
        lambda: client.connected and client.stats["connects"] == connects,
        what=f"connection {connects}",
    )


# Sessions


def test_a_session_is_resumed_after_a_loss_and_after_a_leave(
    make: Make, broker: BrokerProcess
) -> None:
    with Proxy(broker.port) as proxy:
        client = make(port=proxy.port)
        client.connect()
        assert not resumed(client)
        assert client.publish("~/a", b"").wait(seconds(20))
        for connects in (2, 3):
            proxy.reset()
            connected_anew(client, connects)
            assert resumed(client)
        client.disconnect()
        client.connect()
        assert resumed(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_with_each_version_of_tls(
    make: Make, scripted: ScriptedBroker, version: ssl.TLSVersion
) -> None:
    scripted.context.minimum_version = scripted.context.maximum_version = version
    client = make(port=scripted.port, status=False)
    client.start()
    seen = []
    for _ in range(3):
        with scripted.connection() as connection:
            connection.accept()
            wait_until(lambda: client.connected)
            seen.append(connection.tls.session_reused)
            # TLS 1.3 hands its tickets over after the handshake: something must have been read
            delivery = client.publish("~/a", b"")
            connection.send(answer(PUBACK, connection.expect(PUBLISH).packet_id))
            assert delivery.wait(seconds(20))
        wait_until(lambda: not client.connected)
    assert seen == [False, True, True]


def test_a_session_that_the_broker_has_forgotten_is_no_failure(
    make: Make, authority: Authority, tmp_path: Path
) -> None:
    client = make(status=False)
    for number in range(2):  # each with a context, so with ticket keys, of its own
        with ScriptedBroker(tmp_path / str(number), authority) as scripted:
            # Of one port, as far as the client can tell: so it offers its session there.
            client._connection.settings.port = scripted.port
            client._connection.link._stream._port = scripted.port  # type: ignore[attr-defined]
            client.start()
            with scripted.connection() as connection:
                connection.accept()
                wait_until(lambda: client.connected)
                assert not connection.tls.session_reused
                client.disconnect()


def test_a_session_is_let_go_with_a_failure(make: Make, scripted: ScriptedBroker) -> None:
    client = make(port=scripted.port, status=False)
    client.start()
    with scripted.connection() as connection:
        connection.accept()
        wait_until(lambda: client.connected)
    reused = []
    for code in (3, 0):
        with scripted.connection() as connection:
            connection.expect(CONNECT)
            reused.append(connection.tls.session_reused)
            connection.send(bytes([0x20, 2, 0, code]))
            wait_until(lambda: client.state == ("waiting" if code else "connected"))  # noqa: B023
    assert reused == [True, False]


def test_a_session_is_not_used_beyond_its_certificate(
    make: Make, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(port=scripted.port, status=False)
    client.start()
    with scripted.connection() as connection:
        connection.accept()
        wait_until(lambda: client.connected)
        client._connection.link._stream._session_ends_s = time.time() - 1  # type: ignore[attr-defined]
    with scripted.connection() as connection:
        connection.accept()
        assert not connection.tls.session_reused


# What is offered


def test_versions_and_ciphers(make: Make, scripted: ScriptedBroker) -> None:
    scripted.context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = make(port=scripted.port, status=False, alpn=["mqtt", "x-amzn-mqtt-ca"])
    scripted.context.set_alpn_protocols(["x-amzn-mqtt-ca"])
    names = []
    scripted.context.sni_callback = lambda sock, name, context: names.append(name)
    client.start()
    with scripted.connection() as connection:
        assert connection.tls.selected_alpn_protocol() == "x-amzn-mqtt-ca"
        assert connection.tls.version() == "TLSv1.2"
        connection.accept()
        wait_until(lambda: client.connected)
    assert names[0] == "localhost"
    context = client._connection.link._stream.context  # type: ignore[attr-defined]
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    # Not by what the server has seen: there Python 3.11.2 tells of the server's own.
    offered = [cipher["name"] for cipher in context.get_ciphers()]
    assert offered
    for name in offered:
        assert name.startswith("TLS_") or (
            name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name)
        ), name


def test_an_address_is_verified_too(make: Make) -> None:
    client = make(host="127.0.0.1")
    client.connect()
    assert client.publish("~/a", b"").wait(seconds(20))


@pytest.mark.parametrize(
    "secret", ["correct horse battery", b"correct horse battery", lambda: "correct horse battery"]
)
def test_an_encrypted_key(make: Make, bundle: Path, authority: Authority, secret: Any) -> None:
    device_id = f"encrypted-{next(_numbers)}"
    issued = authority.issue_device(device_id)
    (bundle / "device.key").write_bytes(issued.key_pem(b"correct horse battery"))
    (bundle / "device0.crt").write_bytes(issued.chain_pem())
    make(client_id=device_id, key_password=secret).connect()


def test_a_chain_in_several_files_and_more_than_one_anchor(
    tmp_path: Path, authority: Authority, scripted: ScriptedBroker
) -> None:
    other = Authority.create(
        tmp_path / "ca", name="with an intermediate", passphrase=None, intermediate=True
    )
    bundle = write_bundle(tmp_path / "bundle", other, "chained", port=scripted.port)
    issued = other.issue_device("chained", renew=True)
    names = []
    for certificate in issued.chain_der():
        names.append(f"chain{len(names)}.pem")
        (bundle / names[-1]).write_text(ssl.DER_cert_to_PEM_cert(certificate))
    assert len(names) == 2
    (bundle / "device.key").write_bytes(issued.key_pem())
    (bundle / "first.der").write_bytes(authority.root.public_bytes(Encoding.DER))
    scripted.context.load_verify_locations(cadata=other.root.public_bytes(Encoding.DER))
    client = Client(str(bundle), certificate=names, ca=["ca0.crt", "first.der"], status=False)
    client.start()
    with scripted.connection() as connection:
        connection.accept()
        wait_until(lambda: client.connected)
        client.disconnect()


def test_the_systems_trust(
    make: Make, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.pem"
    store.write_bytes(authority.root.public_bytes(Encoding.PEM))
    with pytest.raises(UsageError):
        make(ca=[])
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    client = make(ca=[], system_trust=True)
    client.connect()
    assert client.connected


# WebSockets


def test_websockets(make: Make, broker: BrokerProcess) -> None:
    with Proxy(broker.websockets_port or 0) as proxy:
        client = make(transport="wss", port=proxy.port)
        received: list[bytes] = []
        client.subscribe("~/echo", lambda message: received.append(message.payload))
        client.connect()
        # Not larger: Mosquitto 2.0 takes half a second to send 20 kB through a WebSocket, to any
        # client.
        payloads = [
            bytes([n % 251]) * size
            for n, size in enumerate([0, 1, 100, 125, 126, 1000, 5_000, 10_000] + [64] * 300)
        ]
        for payload in payloads:
            client.publish("~/echo", payload)
        assert client.flush(seconds(30))

        def echoed() -> bool:
            client.wait(0.02)
            return len(received) >= len(payloads)

        wait_until(echoed, what="the echo of the last message")
        assert received == payloads
        proxy.up.piece_bytes = 7
        proxy.down.piece_bytes = 5
        proxy.reset()
        connected_anew(client, 2)
        assert resumed(client)
        assert client.publish("~/echo", b"trickled").wait(seconds(20))


def test_websockets_that_are_none(make: Make, scripted: ScriptedBroker) -> None:
    client = make(transport="wss", port=scripted.port, ws_path="/nothing")
    client.start()
    with scripted.connection() as connection:
        connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        wait_until(lambda: client.state == "waiting")
    assert isinstance(client.last_error, ProtocolRefused)
    assert "/nothing" in str(client.last_error)


# Deadlines


@pytest.mark.parametrize("after", [0, 100, 1500])
def test_a_handshake_that_stops_is_given_up(make: Make, broker: BrokerProcess, after: int) -> None:
    with Proxy(broker.port) as proxy:
        proxy.down.hold(after)
        client = make(port=proxy.port, connect_timeout_s=1)
        start = time.monotonic()
        with pytest.raises(TimedOut):
            client.connect(4 * LATE_S)
        assert 0.9 < time.monotonic() - start < LATE_S


def test_a_handshake_that_trickles_is_given_up(make: Make, broker: BrokerProcess) -> None:
    with Proxy(broker.port) as proxy:
        proxy.down.piece_bytes = 5
        proxy.down.pause_s = 0.01
        client = make(port=proxy.port, connect_timeout_s=1)
        start = time.monotonic()
        with pytest.raises(TimedOut):
            client.connect(4 * LATE_S)
        assert time.monotonic() - start < LATE_S
        assert 20 < proxy.down.passed_bytes < 1000


def test_an_attempt_can_be_broken_off(make: Make, broker: BrokerProcess) -> None:
    with Proxy(broker.port) as proxy:
        proxy.down.hold()
        client = make(port=proxy.port, connect_timeout_s=4 * LATE_S)
        client.start()
        wait_until(lambda: proxy.accepted)
        start = time.monotonic()
        client.disconnect()
        assert time.monotonic() - start < LATE_S
        assert client.state == "closed"


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    make: Make, broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        queue = [socket.socket() for _ in range(3)]  # fill its queue, so that it answers no more
        for sock in queue:
            sock.setblocking(False)
            sock.connect_ex(silent.getsockname())
        answers = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
            for port in (silent.getsockname()[1], broker.port)
        ]
        monkeypatch.setattr(stream_openssl.socket, "getaddrinfo", lambda *arguments: answers)
        client = make(connect_timeout_s=3 + slowness())
        client.connect(4 * LATE_S)
        assert client.connected
        for sock in queue:
            sock.close()


def test_a_slow_name_is_given_up_and_asked_for_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    proceed = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *rest: Any) -> Any:
        if socket.AI_NUMERICHOST not in rest:
            asked.append(host)
            proceed.wait(8 * LATE_S)
        return real(host, *rest)

    monkeypatch.setattr(stream_openssl.socket, "getaddrinfo", slow)
    client = make(connect_timeout_s=0.5)
    for _ in range(2):
        start = time.monotonic()
        with pytest.raises(NameNotResolved):
            client.connect(4 * LATE_S)
        assert time.monotonic() - start < LATE_S
    assert asked == ["localhost"]
    proceed.set()
    client.connect()
    assert asked == ["localhost"]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 80])
def test_what_is_no_name(make: Make, host: str) -> None:
    with pytest.raises(NameNotResolved):
        make(host=host).connect()


def test_a_packet_that_stops_half_way(
    make: Make, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paho, "_STALL_MS", int(500 * slowness()))
    client = make(port=scripted.port, status=False, max_packet_bytes=512)
    client.start()
    with scripted.connection() as connection:
        connection.accept()
        wait_until(lambda: client.connected)
        connection.send(publish("a", bytes(400))[:100])
        wait_until(lambda: not client.connected)
    assert isinstance(client.last_error, TimedOut)


def test_a_peer_that_does_not_read(
    make: Make, broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paho, "_STALL_MS", int(500 * slowness()))
    with Proxy(broker.port) as proxy:
        client = make(port=proxy.port, outbox_bytes=1 << 28, outbox_messages=10_000)
        client.connect()
        proxy.up.hold()
        for _ in range(300):
            client.publish("~/a", bytes(100_000), qos=0)
        wait_until(lambda: not client.connected)
        assert isinstance(client.last_error, TimedOut)
        assert client._connection.outbox.count > 0
        proxy.up.release()
        proxy.reset()
        connected_anew(client, 2)
        assert client.flush(seconds(60))


def test_an_end_in_the_middle_of_a_packet(make: Make, scripted: ScriptedBroker) -> None:
    client = make(port=scripted.port, status=False)
    client.start()
    with scripted.connection() as connection:
        connection.accept()
        wait_until(lambda: client.connected)
        connection.send(b"\x30\x50\0\1a")
    wait_until(lambda: not client.connected)
    assert isinstance(client.last_error, ConnectionLost)
