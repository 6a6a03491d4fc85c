"""The embedded broker: amqtt behind our own admission and under our own rules, as a program:

    python -m securemqtt_tools.broker.embedded DIRECTORY

For trying things out where Mosquitto is not installed: its sessions live in memory and end with it.
SIGHUP: read rules, passwords, certificates and CRL again, and end the connections of who was
revoked, or has to come from another network.
SIGTERM: stop.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import websockets.asyncio.server
from amqtt.adapters import StreamWriterAdapter, WebSocketsWriter, WriterAdapter
from amqtt.errors import AMQTTError, MQTTError, NoDataError

from securemqtt.platform import escaped, traceback_of
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.embedded.admission import (
    CONNECT_S,
    Admission,
    AdmissionReader,
    Identity,
    NotAdmitted,
    identity_of,
)
from securemqtt_tools.broker.embedded.handshakes import Listener, address_of
from securemqtt_tools.broker.embedded.ruled import LISTENER, RuledBroker
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.crls import issuer_of
from securemqtt_tools.pki.names import serial_text

_log = logging.getLogger("securemqtt.broker")
_READ_BYTES = 65_536
_END_S = 5.0
_REVOKED = "its certificate has been revoked"
_ELSEWHERE = "it comes from another network"


@dataclass(eq=False)
class Connection:
    """A client with a certificate."""

    identity: Identity
    address: str
    abort: Callable[[], None]
    ended: asyncio.Event

    def __str__(self) -> str:
        serial = serial_text(self.identity.serial)
        return f"{self.identity.name} from {self.address} with certificate {serial}"


class Embedded:
    """Listens, lets clients in to the broker, and puts out those who must go."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self.broker = RuledBroker(config)
        self._admission = Admission(config)
        crl = config.crl()
        self._issuer = issuer_of(crl)
        self._revoked = {entry.serial_number for entry in crl}
        self._connections: dict[str, Connection] = {}
        # everyone, also who has said nothing yet
        self._peers: dict[asyncio.Task[None] | None, asyncio.WriteTransport] = {}
        self._sockets = [_listen(config.bind, config.port)]
        if config.websockets_port is not None:
            self._sockets.append(_listen(config.bind, config.websockets_port))
        self._servers: list[asyncio.Server | websockets.asyncio.server.Server] = []

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        stop = asyncio.Event()
        reload = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        await self.broker.start()
        await self._open()
        _log.info("amqtt version %s running", version("amqtt"))
        while not stop.is_set():
            waits = [asyncio.ensure_future(event.wait()) for event in (stop, reload)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if reload.is_set():
                reload.clear()
                await self._reload()
        self._close()
        for transport in self._peers.values():
            transport.abort()
        await self.broker.shutdown()
        left = [task for task in self._peers if task is not None]
        if left:  # else asyncio ends them, with a traceback of each before Python 3.12
            await asyncio.wait(left, timeout=_END_S)

    async def _open(self) -> None:
        context = self._admission.context
        tcp = asyncio.start_server(
            self._tcp,
            sock=self._sockets[0].dup(),
            ssl=context,
            ssl_handshake_timeout=CONNECT_S,
            limit=_READ_BYTES,
        )
        self._servers.append(await tcp)
        if len(self._sockets) > 1:
            server = websockets.asyncio.server.serve(
                self._websocket,
                sock=self._sockets[1].dup(),
                ssl=context,
                ssl_handshake_timeout=CONNECT_S,
                open_timeout=CONNECT_S,
                subprotocols=[websockets.Subprotocol("mqtt")],
                compression=None,
                max_size=self.config.limits.packet_bytes,
            )
            self._servers.append(await server)

    def _close(self) -> None:
        """Stop to accept; who is connected stays."""
        for server in self._servers:
            if isinstance(server, asyncio.Server):
                server.close()
            else:
                server.close(close_connections=False)
        self._servers.clear()

    async def _reload(self) -> None:
        try:
            config = BrokerConfig.open(self.config.directory)
            admission = Admission(config)
            crl = config.crl()
            revoked = {entry.serial_number for entry in crl}
            self.broker.take_up(config)
        except (FatalError, OSError, ValueError) as error:
            _log.error("not reloaded, everything stays as it was: %s", error)
            return
        self.config = config
        self._admission, self._issuer, self._revoked = admission, issuer_of(crl), revoked
        self._close()
        await self._open()
        for connection in list(self._connections.values()):
            if self._is_out(connection.identity):
                _log.info("put out %s: %s", connection, _REVOKED)
                connection.abort()
            elif (refusal := self._refusal(connection)) is not None:
                _log.warning("put out %s: %s", connection, refusal)
                connection.abort()
        _log.info("Reloaded")

    def _is_out(self, identity: Identity) -> bool:
        """Return True for a certificate that was revoked, or is not the present issuer's, by its
        key: what another one has issued is worth nothing any more, whatever its name.
        """
        return identity.serial in self._revoked or not identity.issuer == self._issuer != b""

    def _refusal(self, connection: Connection) -> str | None:
        """Say why somebody may not come from where he does; None where he may."""
        may = self.broker.may_come_from(connection.identity.name, connection.address)
        return None if may else _ELSEWHERE

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def receive() -> bytes:
            return await reader.read(_READ_BYTES)

        await self._serve(receive, StreamWriterAdapter(writer), writer.transport)
        writer.close()

    async def _websocket(self, websocket: websockets.asyncio.server.ServerConnection) -> None:
        async def receive() -> bytes:
            try:
                data = await websocket.recv()
            except websockets.ConnectionClosed:
                return b""
            return data.encode() if isinstance(data, str) else data

        await self._serve(receive, WebSocketsWriter(websocket), websocket.transport)

    async def _serve(
        self,
        receive: Callable[[], Awaitable[bytes]],
        writer: WriterAdapter,
        transport: asyncio.WriteTransport,
    ) -> None:
        """Take one connection from its TLS handshake to its end."""
        task: asyncio.Task[None] | None = asyncio.current_task()
        self._peers[task] = transport
        who = f"? from {address_of(transport)}"  # until there is a certificate; for the log
        try:
            tls = writer.get_ssl_info()
            if tls is None or len(self._peers) > self.config.limits.connections:
                raise NotAdmitted("too many connections")
            identity = identity_of(tls)
            connection = Connection(
                identity, address_of(transport), transport.abort, asyncio.Event()
            )
            who = str(connection)
            reader = AdmissionReader(receive, self.config.limits.packet_bytes)
            limit_s = self.config.limits.keep_alive_s
            await self._admission.admit(
                identity, reader, writer, limit_s, lambda: self._refusal(connection)
            )
            # The handshake looked at the certificate as things were when it began.
            if self._is_out(identity):
                raise NotAdmitted(_REVOKED)
            try:
                await self._take_over(connection)
                _log.info("let in %s", connection)
                await self.broker.external_connected(reader, writer, LISTENER)
                _log.info("left %s", connection)
            finally:
                connection.ended.set()
                if self._connections.get(identity.name) is connection:
                    del self._connections[identity.name]
        except NotAdmitted as refusal:
            _log.warning("refused %s: %s", who, refusal)
        except (AMQTTError, MQTTError, NoDataError, OSError) as error:
            _log.warning("left %s: %s", who, error)
        finally:
            del self._peers[task]

    async def _take_over(self, connection: Connection) -> None:
        """Put the new connection in the place of the one that the same device may still have, and
        wait for its end.
        """
        old = self._connections.get(connection.identity.name)
        self._connections[connection.identity.name] = connection
        if old is not None:
            old.abort()
            try:
                await asyncio.wait_for(old.ended.wait(), CONNECT_S)
            except asyncio.TimeoutError as error:
                raise NotAdmitted(
                    f"the old connection of {connection.identity.name} does not end"
                ) from error


def _listen(bind: str, port: int) -> socket.socket:
    if bind:
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        listens = socket.create_server((bind, port), family=family)
    elif socket.has_dualstack_ipv6():
        listens = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        listens = socket.create_server(("", port))
    return Listener(fileno=listens.detach())


class Lines(logging.Formatter):
    """A line of the log for each record, whatever client ids and topics clients choose."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaped(super().formatMessage(record))

    def formatException(self, info: Any) -> str:
        return traceback_of(info[1])


def main(arguments: list[str]) -> int:
    """Run the broker of a directory; 1 with a line on standard error when it cannot start."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    _log.setLevel(logging.INFO)
    try:
        config = BrokerConfig.open(Path(arguments[0]))

        async def serve() -> None:
            await Embedded(config).run()

        asyncio.run(serve())
    except (FatalError, OSError, ValueError) as error:
        print(f"Error: {escaped(str(error))}", file=sys.stderr)
        return 1
    return 0
