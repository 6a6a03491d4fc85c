"""What can go wrong, as one tree.

    SecureMQTTError
    ├── UsageError                 a mistake in the program
    │   ├── InvalidTopic           ├── InvalidPayload        ├── NotSupported
    ├── BundleError                a mistake in what was provisioned
    │   ├── BundleNotFound         ├── FileMissing           ├── FileTruncated
    │   ├── FileNotPrivate         ├── WrongEncoding         ├── WrongKeyPassword
    │   └── KeyMismatch
    ├── NetworkError               the way to the broker; passes by itself
    │   ├── NameNotResolved        ├── ConnectionRefused     ├── TimedOut
    │   ├── ConnectionLost         └── WiFiNotConnected
    ├── SecurityError              the broker's proof or ours did not hold
    │   ├── NotTLS                 ├── TLSVersionTooOld      ├── HandshakeFailed
    │   ├── UnknownCA              ├── CertificateExpired    ├── CertificateNotYetValid
    │   ├── ClockWrong             ├── HostNameMismatch
    │   ├── ClientCertificateMissing   ├── ClientCertificateExpiring
    │   ├── ClientCertificateExpired   ├── ClientCertificateRefused
    │   └── ClientCertificateRevoked
    ├── BrokerError                the broker's answer
    │   ├── NotAuthorised          ├── ClientIdRefused       ├── BrokerFull
    │   ├── ProtocolRefused        └── SubscriptionRefused
    ├── MalformedPacket            the peer broke MQTT's rules
    ├── OutboxError
    │   ├── OutboxFull             ├── MessageTooLarge       ├── OutboxInUse
    │   ├── OutboxNotDurable       └── MessageRefused
    └── OutOfMemory

Each error has `what` (what happened), `cause` (the likely one), `remedy` (what to do), `transient`
(whether it can pass by itself) and `code` (the raw number or text underneath, or None); `str` of it
is all of that in a few sentences. docs/errors.md has them all. Their words are in catalogue.txt.

A module that a board keeps in memory imports this one in the function that raises, and so does
without its classes as long as all goes well: see `temporary` in platform/micropython.py.
"""

from .platform import TYPE_CHECKING as _TYPE_CHECKING
from .platform import escaped as _escaped

if _TYPE_CHECKING:
    from collections.abc import Iterator as _Iterator
    from typing import Any as _Any
    from typing import Literal as _Literal

    _Variant = _Literal[
        "", "absent", "again", "alert", "certificate", "connack", "der", "der_key", "encrypted",
        "full", "handshake", "keep_alive", "limit", "mark", "other", "outbox", "password",
        "pem", "pem_key", "read_only", "session", "unasked", "writable", "40", "42", "43", "45",
        "48",
    ]  # fmt: skip


class SecureMQTTError(Exception):
    """Base of every error that securemqtt raises."""

    transient = False

    def __init__(
        self,
        what: str,
        code: object = None,
        variant: "_Variant" = "",
        about: str = "the broker",
        cause: "str | None" = None,
        remedy: "str | None" = None,
        text: "str | None" = None,
    ) -> None:
        """Say what happened; cause and remedy are the catalogue's unless they are given.

        `code` is the raw number or text underneath. `variant` names a case that has words of its
        own in the catalogue. `about` is what they speak of: a host, or the path of a file.
        `text` is all of it in a few sentences, made of the rest unless it is given. Control
        characters, such as a file's name may hold, are escaped in all of them.
        """
        if cause is None or remedy is None:
            cause, remedy = _words(type(self), variant, about)
        if text is None:
            what, cause, remedy = _escaped(what), _escaped(cause), _escaped(remedy)
            text = _escaped(_text(what, code, cause, remedy))
        # The whole of it, since MicroPython shows the argument in a traceback and not `str`.
        super().__init__(text)
        self.what = what
        self.cause = cause
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> "tuple[_Any, ...]":
        """Have pickle and copy make it again as it is, a subclass with its own fields, too."""
        return _made_again, (type(self), self.args, dict(self.__dict__))


def _made_again(
    kind: "type[SecureMQTTError]", args: "tuple[_Any, ...]", fields: "dict[str, object]"
) -> SecureMQTTError:
    error = kind.__new__(kind, *args)
    for name in fields:
        setattr(error, name, fields[name])
    return error


def _text(what: str, code: object, cause: str, remedy: str) -> str:
    text = what
    if code is not None:
        text += " [" + str(code) + "]"
    if cause:
        text += ". Likely cause: " + cause
    if remedy:
        text += ". What to do: " + remedy
    return text + "."


def _words(kind: type, variant: str, about: str) -> "tuple[str, str]":
    """Return cause and remedy of an error's class, those of a base where it has none itself."""
    if kind is SecureMQTTError:
        return "", ""
    try:
        base = kind
        while base is not SecureMQTTError:
            found = _find(base.__name__, variant)
            if found is not None:
                return found[0].replace("{}", about), found[1].replace("{}", about)
            # A user's own class: what it is derived from, as far as that is one of ours.
            base = next(one for one in base.__bases__ if issubclass(one, SecureMQTTError))
    except MemoryError:
        base = kind
    return "", "see " + kind.__name__ + " in docs/errors.md"


def _find(name: str, variant: str) -> "tuple[str, str] | None":
    """Return cause and remedy of an error's case, those of all its cases if it has none of its own.

    None if there is no error of this name, or no catalogue: a frozen library has none.
    """
    found = None
    try:
        for key, cause, remedy in _catalogue():
            if key == name + "." + variant:
                return cause, remedy
            if key == name:
                found = cause, remedy
    except OSError:
        return None
    return found


def _catalogue() -> "_Iterator[tuple[str, str, str]]":
    """Return a generator of what catalogue.txt has: name, with `.variant` if it is for one case of
    the error only; cause; remedy. Raise OSError if it is not there.

    Line by line, since all of it would take 17 kB of a board's heap, just when something went
    wrong.
    """
    directory = __file__.replace("\\", "/").rpartition("/")[0]
    with open(directory + "/catalogue.txt", encoding="utf-8") as file:
        for line in file:
            name = line.strip()
            if name and name[0] != "#":
                yield name, file.readline().strip(), file.readline().strip()


_WHAT = "memory ran out"
_CAUSE = "what the program keeps leaves too little for the connection"
_REMEDY = "see OutOfMemory in docs/errors.md"
_NO_ROOM = _WHAT + ". Likely cause: " + _CAUSE + ". What to do: " + _REMEDY + "."


class OutOfMemory(SecureMQTTError):
    """Memory ran out; passes by itself. Without arguments it is made of what is there already."""

    transient = True

    def __init__(
        self,
        what: str = _WHAT,
        code: object = None,
        variant: "_Variant" = "",
        about: str = "",
        cause: "str | None" = _CAUSE,
        remedy: "str | None" = _REMEDY,
    ) -> None:
        plain = what is _WHAT and code is None and cause is _CAUSE and remedy is _REMEDY
        text = _NO_ROOM if plain else None
        super().__init__(what, code, variant, about, cause, remedy, text)


class UsageError(SecureMQTTError):
    """A mistake in the program, or in the options that it gives."""


class InvalidTopic(UsageError):
    """A topic name or filter that MQTT does not allow."""


class InvalidPayload(UsageError):
    """A payload that is neither bytes nor str nor JSON, or too long."""


class NotSupported(UsageError):
    """An option that this interpreter does not have."""


class BundleError(SecureMQTTError):
    """A mistake in what was provisioned."""


class BundleNotFound(BundleError):
    """No bundle in any of the places where it is looked for."""


class FileMissing(BundleError):
    """A file of the bundle cannot be read."""


class FileTruncated(BundleError):
    """A file of the bundle is empty, cut off or damaged."""


class FileNotPrivate(BundleError):
    """A secret that others than its owner may read (CPython)."""


class WrongEncoding(BundleError):
    """PEM where DER is needed, or the other way round, or neither."""


class WrongKeyPassword(BundleError):
    """The private key is encrypted, and its password is missing or wrong (CPython)."""


class KeyMismatch(BundleError):
    """The private key is not the one of the certificate."""


class NetworkError(SecureMQTTError):
    """The way to the broker is cut; passes by itself."""

    transient = True


class NameNotResolved(NetworkError):
    """The broker's name has no address."""


class ConnectionRefused(NetworkError):
    """Nobody listens at the broker's port."""


class TimedOut(NetworkError):
    """The broker, or who is there in its place, does not answer in time."""


class ConnectionLost(NetworkError):
    """The broker, or the network, ended the connection."""


class WiFiNotConnected(NetworkError):
    """A board has not joined its Wi-Fi."""


class SecurityError(SecureMQTTError):
    """The broker's proof of identity, or ours, did not hold."""


class NotTLS(SecurityError):
    """What answers does not speak TLS."""


class TLSVersionTooOld(SecurityError):
    """There is no common version of TLS from 1.2 on."""


class HandshakeFailed(SecurityError):
    """The TLS handshake failed for a reason that has no class of its own."""


class UnknownCA(SecurityError):
    """No CA that this device trusts has issued the broker's certificate."""


class CertificateExpired(SecurityError):
    """The broker's certificate has expired."""


class CertificateNotYetValid(SecurityError):
    """The broker's certificate is not valid yet; passes by itself."""

    transient = True


class ClockWrong(SecurityError):
    """This device's clock is plainly wrong, so no certificate can be judged; passes by itself."""

    transient = True


class HostNameMismatch(SecurityError):
    """The broker's certificate does not have the name it is called by."""


class ClientCertificateMissing(SecurityError):
    """The broker demands a certificate, and this device has none."""


class ClientCertificateExpiring(SecurityError):
    """This device's certificate ends soon, or has ended; told, and never raised."""


class ClientCertificateExpired(SecurityError):
    """This device's certificate has expired."""


class ClientCertificateRefused(SecurityError):
    """The broker does not accept this device's certificate."""


class ClientCertificateRevoked(SecurityError):
    """This device's certificate was revoked."""


class BrokerError(SecureMQTTError):
    """The broker's answer is a no."""


class NotAuthorised(BrokerError):
    """The broker does not let this device in (CONNACK 4 and 5)."""


class ClientIdRefused(BrokerError):
    """The broker does not take the client id (CONNACK 2)."""


class BrokerFull(BrokerError):
    """The broker is starting, or takes no more connections; passes by itself."""

    transient = True


class ProtocolRefused(BrokerError):
    """The broker does not speak MQTT 3.1.1 there (CONNACK 1), or not over WebSockets."""


class SubscriptionRefused(BrokerError):
    """The broker does not grant a subscription (SUBACK 128)."""


class MalformedPacket(SecureMQTTError):
    """What came breaks MQTT's rules, or those of WebSockets; passes by itself."""

    transient = True


class OutboxError(SecureMQTTError):
    """The outbox cannot take a message, or not as it was asked to."""


class OutboxFull(OutboxError):
    """Too much waits for the broker already."""


class MessageTooLarge(OutboxError):
    """One message is larger than the whole outbox may be."""


class MessageRefused(OutboxError):
    """The broker ends the connection at one message, so it is parked; tried again later."""


class OutboxInUse(OutboxError):
    """Another process, or client, has the directory of the durable outbox."""


class OutboxNotDurable(OutboxError):
    """The storage fails, so messages are in memory only; passes by itself."""

    transient = True
