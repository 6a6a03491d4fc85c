"""The one place where foreign errors become ours.

What is particular to a TLS library is in openssl.py and mbedtls.py. On a board it is out of memory
again before the broker is asked once more, so that there is room for that second handshake.
"""

import errno
import time

from ..errors import (
    BrokerFull,
    CertificateExpired,
    CertificateNotYetValid,
    ClientCertificateExpired,
    ClientCertificateMissing,
    ClientCertificateRefused,
    ClientCertificateRevoked,
    ClientIdRefused,
    ClockWrong,
    ConnectionLost,
    ConnectionRefused,
    HandshakeFailed,
    HostNameMismatch,
    KeyMismatch,
    NameNotResolved,
    NetworkError,
    NotAuthorised,
    NotTLS,
    OutOfMemory,
    ProtocolRefused,
    SecureMQTTError,
    TimedOut,
    TLSVersionTooOld,
    UnknownCA,
    WiFiNotConnected,
)
from ..log import printable
from ..platform import TAKES_DER, const, temporary, unix_time
from ..protocol.backoff import lasting
from ..settings import EARLIEST_S

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from ..settings import Settings
    from .finding import Finding, Stage, Variant

    class Link(Protocol):
        """What carried the connection."""

        @property
        def session(self) -> Any:
            """What was sent and is not answered: protocol/session.py."""

    class Connection(Protocol):
        """What is known of a connection that is over."""

        settings: Settings
        sent_topic: str
        sent_bytes: int
        hung_up_in_a_row: int

        @property
        def link(self) -> Link:
            """What carried it."""


# What happened, with the broker's host and port for {}.
_WHAT: "dict[type[SecureMQTTError], str]" = {
    OutOfMemory: "memory ran out in talking to {}",
    WiFiNotConnected: "the Wi-Fi of this board is not connected, so {} is out of reach",
    NameNotResolved: "the name in {} cannot be resolved",
    NetworkError: "there is no way to {}",
    ConnectionRefused: "{} refused the connection",
    TimedOut: "no answer from {} in time",
    ConnectionLost: "the connection to {} was lost",
    BrokerFull: "{} closed the connection as soon as it stood",
    NotTLS: "{} does not answer in TLS",
    TLSVersionTooOld: "{} offers no version of TLS from 1.2 on",
    UnknownCA: "no CA that this device trusts has issued the certificate of {}",
    CertificateExpired: "the certificate of {} has expired",
    CertificateNotYetValid: "the certificate of {} is not valid yet",
    ClockWrong: "the certificate of {} is not valid yet",
    HostNameMismatch: "the certificate of {} does not have the name that this device calls it by",
    HandshakeFailed: "the TLS handshake with {} failed",
}

# TLS alerts (RFC 8446, section 6).
_HANDSHAKE_FAILURE = const(40)
_REVOKED = const(44)
_EXPIRED = const(45)
_ACCESS_DENIED = const(49)
_PROTOCOL_VERSION = const(70)
_UNRECOGNIZED_NAME = const(112)
_CERTIFICATE_REQUIRED = const(116)
# Bad, unsupported, revoked, expired, unknown certificate; unknown CA; access denied. Not 47,
# illegal parameter.
_ABOUT_CERTIFICATE = (42, 43, _REVOKED, _EXPIRED, 46, 48, _ACCESS_DENIED, _CERTIFICATE_REQUIRED)
_ALERT_VARIANTS: "dict[int | None, Variant]" = {42: "42", 43: "43", 45: "45", 48: "48"}

# So many connections in a row that the other end closed soon are no accident.
_AGAIN = const(3)
# The end of the stream (as a board's and our own streams have it), and a write after it.
_BY_PEER = (errno.ECONNRESET, 32)

# What our own broker allows.
_BROKER_KEEP_ALIVE_S = const(3600)

# By return code of CONNACK from 1 on (MQTT 3.1.1, table 3.1); what the table does not know, no MQTT
# 3.1.1 broker says.
_RETURN_CODES: "tuple[type[SecureMQTTError], ...]" = (
    ProtocolRefused,
    ClientIdRefused,
    BrokerFull,
    NotAuthorised,
    NotAuthorised,
)


def translate(
    error: BaseException,
    stage: "Stage",
    settings: "Settings",
    probe: "Callable[[Settings], Finding | None]",
) -> "SecureMQTTError | None":
    """Return our error for a foreign one that came up in `stage`, to be raised by the caller.

    None: it is one of ours already, or none of the network's, the TLS library's or the heap's, so a
    mistake in a program. Where the broker may have had a reason that does not show, `probe` asks
    it once more; it gives None where there is no time for that.
    """
    if isinstance(error, SecureMQTTError) or not isinstance(
        error, (OSError, ValueError, MemoryError)
    ):
        return None
    try:
        return _translated(error, stage, settings, probe)
    except MemoryError:
        return OutOfMemory()
    except SecureMQTTError as ours:  # a file of the bundle that is gone meanwhile
        return ours


def refused(return_code: int, settings: "Settings") -> SecureMQTTError:
    """Return the error of a CONNACK with a return code other than 0 (MQTT 3.1.1, table 3.1)."""
    kind = _RETURN_CODES[return_code - 1] if 0 < return_code < 6 else ProtocolRefused
    what = "{} refused the session of {}".format(settings.address, settings.client_id)
    variant: "Variant" = ""
    if kind is ClientIdRefused and settings.keep_alive_s > _BROKER_KEEP_ALIVE_S:
        what += ", which asks for keep_alive_s={}".format(settings.keep_alive_s)
        variant = "keep_alive"
    return kind(what, return_code, variant, settings.host)


def hung_up(error: Exception, lived_ms: int, connection: "Connection") -> "tuple[Exception, int]":
    """Return an error that says what is known of why the other end closed a session that had lasted
    for `lived_ms`, and how many in a row it closed soon.

    That is not much: MQTT 3.1.1 knows no reason (section 4.8). So: how long it stood, what was sent
    last, what the broker has not acknowledged, and whether it happens again and again.
    """
    # One without a code has words of its own.
    code = error.code if isinstance(error, ConnectionLost) else None
    if code is None:
        return error, 0
    in_a_row = lasting(connection.hung_up_in_a_row, lived_ms) + 1
    what = "{} hung up after {} s"
    if isinstance(code, int) and code not in _BY_PEER:
        what = "the connection to {} was lost after {} s"
    what = what.format(connection.settings.address, lived_ms // 1000)
    if not connection.sent_topic:
        what += "; nothing new was published on it"
    else:
        what += "; the last thing sent was a message of {} bytes on {}".format(
            connection.sent_bytes, printable(connection.sent_topic)
        )
    session = connection.link.session
    for one in session.unanswered.values():
        if isinstance(one, str):
            what += "; no answer to the subscription to " + printable(one)
            break
    in_flight = session.unacknowledged()
    if in_flight:
        oldest = session.unanswered[in_flight[0]]
        what += "; {} in flight, the first of {} bytes on {}".format(
            len(in_flight), len(oldest.payload), printable(oldest.topic)
        )
    variant: "Variant" = "again" if in_a_row >= _AGAIN else "session"
    return ConnectionLost(what, code, variant, connection.settings.host), in_a_row


def _translated(
    error: BaseException,
    stage: "Stage",
    settings: "Settings",
    probe: "Callable[[Settings], Finding | None]",
) -> "SecureMQTTError | None":
    finding = _classified(error, stage)
    variant: "Variant" = "" if stage == "resolve" or stage == "connect" else stage
    if finding.unsaid:
        try:
            answer = probe(settings)
        except MemoryError:
            answer = None
        if answer is None:  # too little is left for a second handshake: go by what is here
            variant = "unasked"
        else:
            answer.code = finding.code
            finding = answer
    if finding.refused:
        return _of_alert(finding.alert, finding.code, settings)
    if finding.error is None:
        return None
    return _in_words(finding.error, finding.code, finding.variant or variant, settings)


def _classified(error: BaseException, stage: "Stage") -> "Finding":
    with temporary():
        if TAKES_DER:
            from .mbedtls import classify
        else:
            from .openssl import classify
        return classify(error, stage)


def _in_words(
    kind: "type[SecureMQTTError]", code: object, variant: "Variant", settings: "Settings"
) -> SecureMQTTError:
    if variant == "certificate":
        what = "the certificate of {} is not acceptable".format(settings.address)
        return HandshakeFailed(what, code, variant, settings.host)
    what = _WHAT[kind].format(settings.address)
    if kind is CertificateExpired or kind is CertificateNotYetValid:
        what += "; this device's clock says {}-{:02d}-{:02d} {:02d}:{:02d} UTC".format(
            *time.gmtime()[:5]
        )
        if kind is CertificateNotYetValid and unix_time() < max(settings.clock_floor, EARLIEST_S):
            kind = ClockWrong
    # Neither cause nor remedy is given: OutOfMemory, too, has the catalogue's if there is room.
    return kind(what, code, variant, settings.host, None, None)


def _of_alert(alert: "int | None", code: object, settings: "Settings") -> SecureMQTTError:
    """Return what a broker that ended the handshake means, seen together with our certificate."""
    host, peer = settings.host, settings.address
    if alert is not None:
        code = "{}, TLS alert {}".format(code, alert)
    if alert == _PROTOCOL_VERSION:
        what = peer + " does not speak the TLS version that this device does"
        return TLSVersionTooOld(what, code, "alert", host)
    if alert == _UNRECOGNIZED_NAME:
        what = peer + " does not know the name that this device calls it by"
        return HostNameMismatch(what, code, about=host)
    with temporary():
        from .. import bundle

        name = "".join(bundle.names(settings.certificate)[:1])
        certificate = bundle.own_certificate(settings)
        fits = not certificate or bundle.key_fits(
            bundle.read(settings.path, settings.key), certificate
        )
        ended_on = bundle.ended_on(certificate)
    if not certificate:
        # TLS 1.2 has no alert of its own for it: OpenSSL says 40 there.
        if alert is None or alert == _HANDSHAKE_FAILURE or alert in _ABOUT_CERTIFICATE:
            what = peer + " wants a certificate, and this device has none"
            return ClientCertificateMissing(what, code, about=host)
    elif not fits:
        what = "the private key is not the one that belongs to the certificate "
        return KeyMismatch(what + name, code, about=host)
    elif alert is None or alert in _ABOUT_CERTIFICATE:
        what = peer + " refused the certificate of this device"
        if alert == _REVOKED:
            return ClientCertificateRevoked(what + ": it has been revoked", code, about=host)
        if ended_on and (alert is None or alert == _EXPIRED):
            return ClientCertificateExpired(what + ": it ended on " + ended_on, code, about=host)
        return ClientCertificateRefused(what, code, _ALERT_VARIANTS.get(alert, ""), host)
    what = peer + " broke off the TLS handshake"
    return HandshakeFailed(what, code, "40" if alert == _HANDSHAKE_FAILURE else "", host)
