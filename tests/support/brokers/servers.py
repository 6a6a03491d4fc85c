"""Servers that do as a test says: plain TCP, TLS of Python's, and Mosquitto with a configuration of
a few lines.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker.children import spawn
from securemqtt_tools.broker.mosquitto.program import READY
from securemqtt_tools.pki import Authority
from support.identities.credentials import Credentials, issued_credentials
from support.network.net import free_port, wait_until
from support.requirements import require_program
from support.speed import seconds

# A server gives up on a connection after this long, so that no test waits for ever.
_CONNECTION_S = seconds(20)
_PORT_ATTEMPTS = 5
Serve = Callable[[socket.socket], None]
"""What a server does on a connection, after the handshake if there is one."""


@contextmanager
def tcp_server(serve: Serve) -> Iterator[int]:
    """Call `serve` in a thread for each connection, one after another, then close it; yield the
    port.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(_CONNECTION_S)
                    try:
                        serve(connection)
                    except OSError:
                        # the device went away, or the handshake was refused as it should be
                        continue

        thread = threading.Thread(target=accept, name="server", daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join(_CONNECTION_S)


def server_context(own: Credentials, ca: Path, **attributes: Any) -> ssl.SSLContext:
    """Make the context of a server that demands certificates; `attributes` are set on it, ciphers
    by a call.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    ciphers = attributes.pop("ciphers", None)
    if ciphers:
        context.set_ciphers(ciphers)
    context.load_cert_chain(own.certificate, own.key)
    context.load_verify_locations(ca)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


def broker_context(directory: Path, authority: Authority) -> ssl.SSLContext:
    """Make the context of a broker as it should be, on this machine; files go into `directory`."""
    names = ["localhost", "127.0.0.1"]
    own = issued_credentials(directory, authority.issue_server(names, renew=True))
    ca = directory / "ca.pem"
    ca.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in authority.trust_anchors()))
    return server_context(own, ca)


@contextmanager
def tls_server(context: ssl.SSLContext, serve: Serve) -> Iterator[int]:
    """Call `serve` for each connection, as `tcp_server`, once its handshake is done."""

    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            serve(tls)

    with tcp_server(secured) as port:
        yield port


def until_gone(connection: socket.socket) -> None:
    """Read until the device has closed."""
    while connection.recv(4096):
        pass


def after(first: bytes, then: Serve = until_gone, *, close: bool = False) -> Serve:
    """Take the first thing that comes, send `first`, and go on with `then`, or close."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(first)
        if not close:
            then(connection)

    return serve


@contextmanager
def silent_port() -> Iterator[int]:
    """Return a port that swallows what comes: its queue of connections is full, so the network does
    not answer any more.
    """
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextmanager
def mosquitto(directory: Path, *lines: str) -> Iterator[int]:
    """Run Mosquitto on a free port of loopback with these lines of configuration for its one
    listener; yield the port.
    """
    program = require_program("mosquitto")
    directory.mkdir(parents=True, exist_ok=True)
    user = ("user root",) if os.geteuid() == 0 else ()
    for _ in range(_PORT_ATTEMPTS):
        port = free_port()
        log = directory / f"mosquitto-{port}.log"
        configuration = directory / f"mosquitto-{port}.conf"
        configuration.write_text("\n".join([f"listener {port} 127.0.0.1", *user, *lines, ""]))
        process = spawn([program, "-c", str(configuration)], log)
        try:
            _await_start(process, log)
            if process.poll() is None:
                yield port
                return
            assert b"Address already in use" in log.read_bytes(), log.read_text()
        finally:
            process.kill()
            process.wait()
    raise AssertionError("no port was free for Mosquitto")


def _await_start(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until Mosquitto says that it runs, or has ended."""
    wait_until(
        lambda: READY.search(log.read_bytes()) or process.poll() is not None,
        what="Mosquitto's start",
    )
