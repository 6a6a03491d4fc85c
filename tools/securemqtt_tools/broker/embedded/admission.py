"""Who is let in to the embedded broker: TLS with a client certificate, and the CONNECT packet,
before amqtt sees a byte.

amqtt acts on a CONNECT before it authenticates: it ends the session of whatever client id is asked
for. So the CONNECT is read here, the certificate's name takes the place of client id and user name,
and the result is passed on. Where devices share a certificate, it is the user name of one of them
that does, with its password.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from amqtt.adapters import BufferReader, ReaderAdapter, WriterAdapter
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connack import (
    BAD_USERNAME_PASSWORD,
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    UNACCEPTABLE_PROTOCOL_VERSION,
    ConnackPacket,
)
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import CONNECT, MQTTFixedHeader
from cryptography import x509
from cryptography.x509.oid import NameOID

from securemqtt.protocol.topics import valid_id
from securemqtt_tools.broker.ciphers import TLS12_CIPHERS
from securemqtt_tools.broker.config import (
    CA,
    CRL,
    PASSWORDS,
    SERVER,
    BrokerConfig,
)
from securemqtt_tools.broker.devices import read_devices
from securemqtt_tools.broker.embedded.handshakes import Handshake
from securemqtt_tools.broker.embedded.soundness import (
    check_connect,
    check_packet,
    whole_packet,
)
from securemqtt_tools.broker.passwords import password_matches, read_hashes
from securemqtt_tools.broker.rules_file import read_rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.crls import issuer_of
from securemqtt_tools.pki.profiles import SHARED, role_of

_log = logging.getLogger(__name__)
_PAUSE_S = 0.02
_LONGEST_NAME = 64  # of what somebody says to be, in the log: no id is longer
NOBODY = "?"  # until there is a user name
CONNECT_S = 10.0  # from the end of the TLS handshake to a whole CONNECT


class NotAdmitted(Exception):
    """The peer does not get in; the message says why, for the log."""


def server_context(directory: Path) -> ssl.SSLContext:
    """Make the TLS context of a broker: client certificate required, CRL checked, floors as for
    Mosquitto.

    There are no tickets: a resumed handshake would look at no certificate and no CRL. Raises
    FatalError where a file is missing or damaged.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = Handshake
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(TLS12_CIPHERS))
    for load, name in (
        (context.load_cert_chain, SERVER),
        (context.load_verify_locations, CA),
        (context.load_verify_locations, CRL),
    ):
        try:
            load(directory / name)
        except OSError as error:  # ssl.SSLError is one, and names no file
            raise FatalError(
                f"cannot load {directory / name}: {error.strerror or error}"
            ) from error
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    return context


@dataclass(frozen=True)
class Identity:
    """Whom a certificate speaks for, and which certificate it was. One that the devices of a group
    share speaks for nobody until there is a user name.
    """

    name: str
    serial: int
    issuer: bytes  # its key: see crls.issuer_of
    group: str | None = None  # whose devices share it; None: it is a device's own
    hashed: str | None = field(default=None, repr=False)  # the password, once it was given


def identity_of(tls: ssl.SSLObject) -> Identity:
    """Read the one common name of the peer's certificate.

    Raise NotAdmitted when it is no device id, or has expired: a TLS session that is resumed (by its
    id, with TLS 1.2) has brought none of its own.
    """
    certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    if certificate.not_valid_after_utc < datetime.now(timezone.utc):
        raise NotAdmitted("its certificate has expired")
    names = [
        str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]
    if len(names) != 1 or not valid_id(names[0]):
        raise NotAdmitted(f"the common name {names} is no device id")
    serial, issuer = certificate.serial_number, issuer_of(certificate)
    if role_of(certificate) == SHARED:
        return Identity(NOBODY, serial, issuer, names[0])
    return Identity(names[0], serial, issuer)


class AdmissionReader(ReaderAdapter):
    """What amqtt reads from: sound packets of a bounded size, with the keep-alive as its deadline;
    the end of the connection reads as no data.
    """

    def __init__(self, receive: Callable[[], Awaitable[bytes]], longest: int) -> None:
        self._receive = receive
        self._longest = longest
        self.waits: Callable[[], bool] = lambda: False  # whether nothing is to be read for now
        self.will_retain = False
        self._name = ""
        self._received = bytearray()
        self._sound = bytearray()  # packets for amqtt, each of them whole
        self._idle_s: float | None = CONNECT_S
        self._last_s = asyncio.get_running_loop().time()
        self._ended = False

    async def read(self, n: int = -1) -> bytes:
        """Return exactly `n` bytes; none when the peer has gone, sends what it must not, or was
        silent for too long.
        """
        while len(self._sound) < n and not self._ended:
            # amqtt cancels what it has not begun when the connection ends
            await asyncio.sleep(0)
            try:
                packet, body_at = await self.next_packet()
                check_packet(packet[0], packet[body_at:])
                self._sound += packet
            except EOFError:
                self._ended = True
            except ValueError as error:
                _log.warning("a packet of %s ends its connection: %s", self._name, error)
                self._ended = True
        if len(self._sound) < n:
            return b""
        data = bytes(self._sound[:n])
        del self._sound[:n]
        return data

    async def next_packet(self) -> tuple[bytes, int]:
        """Return what comes next, and where in it the body begins.

        Raise EOFError when nothing comes any more, ValueError when that is no packet or too long a
        one.
        """
        while True:
            bounds = whole_packet(self._received)
            if bounds is not None:
                body_at, end = bounds
                if end > self._longest:
                    raise ValueError(f"it is longer than {self._longest} bytes")
                if len(self._received) >= end:
                    packet = bytes(self._received[:end])
                    del self._received[:end]
                    return packet, body_at
            chunk = await self._next_chunk()
            if not chunk:
                raise EOFError
            self._received += chunk

    async def _next_chunk(self) -> bytes:
        """Return what comes next, nothing when the peer was silent for too long, counted over calls
        that amqtt cancels.
        """
        loop = asyncio.get_running_loop()
        while self.waits():
            await asyncio.sleep(_PAUSE_S)  # so TCP makes the peer wait
            self._last_s = loop.time()
        remaining_s = (
            None if self._idle_s is None else max(0.0, self._last_s + self._idle_s - loop.time())
        )
        try:
            chunk = await asyncio.wait_for(self._receive(), remaining_s)
        except (asyncio.TimeoutError, OSError):
            return b""
        self._last_s = loop.time()
        return chunk

    def feed_eof(self) -> None:
        """Do nothing: the transport tells of its end."""

    def admit(self, connect: ConnectPacket) -> None:
        """Put a CONNECT in front of what is read next, and hold the peer to its keep-alive:
        MQTT-3.1.2-24.
        """
        self._name = connect.client_id or ""
        self.will_retain = bool(connect.will_retain_flag)
        keep_alive_s = connect.keep_alive
        self._idle_s = keep_alive_s * 1.5 if keep_alive_s else None
        self._sound[:0] = connect.to_bytes()


class Admission:
    """Decides who gets in, by the settings as they are on disk when it is made."""

    def __init__(self, config: BrokerConfig) -> None:
        self.context = server_context(config.directory)
        self._hashes = read_hashes(config.directory / PASSWORDS) if config.passwords else None
        self._rules = read_rules(config.directory)
        # Whoever has a certificate of its own comes in by nothing else, whatever the rules say.
        self._have_their_own = read_devices(config.directory)

    async def admit(
        self,
        identity: Identity,
        reader: AdmissionReader,
        writer: WriterAdapter,
        most_keep_alive_s: int = 0,
        refusal: Callable[[Identity], str | None] = lambda _: None,
    ) -> Identity:
        """Read the CONNECT and put it back under the certificate's name, at most 10 s; return who
        it is. A longer keep-alive than `most_keep_alive_s`, or none, is refused as by Mosquitto; 0:
        any is taken. `refusal` is asked about him once the CONNECT is there; whoever gets one
        learns nothing of a password.

        Raise NotAdmitted.
        """
        try:
            connect = await asyncio.wait_for(_read_connect(identity, reader, writer), CONNECT_S)
        except (asyncio.TimeoutError, EOFError) as error:
            raise NotAdmitted(f"{identity.name} sent no CONNECT") from error
        except (AMQTTError, MQTTError, NoDataError, ValueError) as error:
            raise NotAdmitted(f"{identity.name} sent no sound CONNECT: {error}") from error
        if identity.group is not None:
            identity = await self._one_of_group(identity, identity.group, connect, writer)
        wrong = refusal(identity)
        if wrong is not None:
            await _refuse(writer, NOT_AUTHORIZED)
            raise NotAdmitted(wrong)
        if self._hashes is not None and not (
            connect.username == identity.name
            and password_matches(self._hashes.get(identity.name), connect.password)
        ):
            await _refuse(writer, BAD_USERNAME_PASSWORD)
            raise NotAdmitted(f"{identity.name} did not give its user name and password")
        if self._hashes is not None:
            identity = replace(identity, hashed=self._hashes[identity.name])
        if most_keep_alive_s and not 0 < connect.keep_alive <= most_keep_alive_s:
            await _refuse(writer, IDENTIFIER_REJECTED)
            raise NotAdmitted(
                f"{identity.name} wants a keep-alive of {connect.keep_alive} s: from 1 to "
                f"{most_keep_alive_s} s is allowed"
            )
        connect.client_id = identity.name
        connect.client_id_is_random = False
        connect.username_flag, connect.username = True, identity.name
        connect.password_flag, connect.password = False, None
        reader.admit(connect)
        return identity

    def no_more(self, identity: Identity) -> str | None:
        """Say why one who was let in must go, by the passwords and the rules as they are here; None
        where he may stay.
        """
        if identity.group is not None and not self._shares(identity.name, identity.group):
            return "it shares that certificate no more"
        if self._hashes is not None and self._hashes.get(identity.name) != identity.hashed:
            return "its password was replaced or taken away"
        return None

    async def _one_of_group(
        self, identity: Identity, group: str, connect: ConnectPacket, writer: WriterAdapter
    ) -> Identity:
        """Return who of a group it is, by the user name. Raise NotAdmitted."""
        if self._hashes is None:
            await _refuse(writer, NOT_AUTHORIZED)
            raise NotAdmitted(
                f"it shows the certificate that {group} shares, for which this broker would have "
                f"to ask for passwords: securemqtt broker init --force --passwords"
            )
        name = connect.username or ""
        if not self._shares(name, group):
            await _refuse(writer, BAD_USERNAME_PASSWORD)
            raise NotAdmitted(
                f"{name[:_LONGEST_NAME]!r} is none of those who share the certificate of {group}"
                + ", since it has one of its own" * (name in self._have_their_own)
            )
        return replace(identity, name=name)

    def _shares(self, name: str, group: str) -> bool:
        return name not in self._have_their_own and self._rules.shares(name, group)


async def _read_connect(
    identity: Identity, reader: AdmissionReader, writer: WriterAdapter
) -> ConnectPacket:
    packet, body_at = await reader.next_packet()
    body = packet[body_at:]
    if packet[0] != CONNECT << 4:
        raise ValueError("the first packet is none")
    if body[2:7] != b"MQTT\x04":
        await _refuse(writer, UNACCEPTABLE_PROTOCOL_VERSION)  # [MQTT-3.1.2-2]
        raise NotAdmitted(
            f"{identity.name} does not speak MQTT 3.1.1, which is all that the embedded broker "
            f"speaks: have its client use that version, or install Mosquitto, which speaks MQTT 5"
        )
    header = MQTTFixedHeader(CONNECT, 0, len(body))
    connect = await ConnectPacket.from_stream(BufferReader(body), header)
    if connect.client_id_is_random:
        connect.client_id = ""  # as it was on the wire
    if connect.to_bytes() != packet:
        raise ValueError("it is malformed")  # amqtt reads what it can and ignores the rest
    check_connect(connect)
    if not connect.client_id and not connect.clean_session_flag:
        await _refuse(writer, IDENTIFIER_REJECTED)  # [MQTT-3.1.3-8]
        raise ValueError("it asks for a kept session, and has no client id")
    return connect


async def _refuse(writer: WriterAdapter, code: int) -> None:
    await ConnackPacket.build(0, code).to_stream(writer)
