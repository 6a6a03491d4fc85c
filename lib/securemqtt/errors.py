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
    │   ├── ClientCertificateMissing   ├── ClientCertificateExpired
    │   └── ClientCertificateRefused   └── ClientCertificateRevoked
    ├── BrokerError                the broker's answer
    │   ├── NotAuthorised          ├── ClientIdRefused       ├── BrokerFull
    │   ├── ProtocolRefused        └── SubscriptionRefused
    ├── MalformedPacket            the peer broke MQTT's rules
    ├── OutboxError
    │   ├── OutboxFull             ├── MessageTooLarge       ├── OutboxInUse
    │   └── OutboxNotDurable
    └── OutOfMemory

Each error has `what` (what happened), `cause` (the likely one), `remedy` (what to do), `transient`
(whether it can pass by itself) and `code` (the raw number or text underneath, or None).
docs/errors.md has them all, in words.

On a board this module is loaded with the first error and stays, for `except` goes by the identity
of a class. All of them would take 10 kB there (64 bits), so each is made when it is first asked
for; the table behind that is in diagnose.py.
"""

from ._compat import TYPE_CHECKING, rarely


class SecureMQTTError(Exception):
    """Base of every error that securemqtt raises."""

    transient = False

    def __init__(self, what: str, cause: str = "", remedy: str = "", code: object = None) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        text = self.what
        if self.code is not None:
            text += " [" + str(self.code) + "]"
        if self.cause:
            text += ". Likely cause: " + self.cause
        if self.remedy:
            text += ". What to do: " + self.remedy
        return text + "."


class OutOfMemory(SecureMQTTError):
    """Memory ran out. Has words of its own, for there may be no room to look for others."""

    transient = True

    def __init__(
        self,
        what: str = "memory ran out",
        cause: str = "what the program keeps leaves too little for the connection",
        remedy: str = "see OutOfMemory in docs/errors.md",
        code: object = None,
    ) -> None:
        super().__init__(what, cause, remedy, code)


if TYPE_CHECKING:
    from collections.abc import Callable

    class UsageError(SecureMQTTError): ...

    class BundleError(SecureMQTTError): ...

    class NetworkError(SecureMQTTError): ...

    class SecurityError(SecureMQTTError): ...

    class BrokerError(SecureMQTTError): ...

    class OutboxError(SecureMQTTError): ...

    class MalformedPacket(SecureMQTTError): ...

    class InvalidTopic(UsageError): ...

    class InvalidPayload(UsageError): ...

    class NotSupported(UsageError): ...

    class BundleNotFound(BundleError): ...

    class FileMissing(BundleError): ...

    class FileTruncated(BundleError): ...

    class FileNotPrivate(BundleError): ...

    class WrongEncoding(BundleError): ...

    class WrongKeyPassword(BundleError): ...

    class KeyMismatch(BundleError): ...

    class NameNotResolved(NetworkError): ...

    class ConnectionRefused(NetworkError): ...

    class TimedOut(NetworkError): ...

    class ConnectionLost(NetworkError): ...

    class WiFiNotConnected(NetworkError): ...

    class NotTLS(SecurityError): ...

    class TLSVersionTooOld(SecurityError): ...

    class HandshakeFailed(SecurityError): ...

    class UnknownCA(SecurityError): ...

    class CertificateExpired(SecurityError): ...

    class CertificateNotYetValid(SecurityError): ...

    class ClockWrong(SecurityError): ...

    class HostNameMismatch(SecurityError): ...

    class ClientCertificateMissing(SecurityError): ...

    class ClientCertificateExpired(SecurityError): ...

    class ClientCertificateRefused(SecurityError): ...

    class ClientCertificateRevoked(SecurityError): ...

    class NotAuthorised(BrokerError): ...

    class ClientIdRefused(BrokerError): ...

    class BrokerFull(BrokerError): ...

    class ProtocolRefused(BrokerError): ...

    class SubscriptionRefused(BrokerError): ...

    class OutboxFull(OutboxError): ...

    class MessageTooLarge(OutboxError): ...

    class OutboxInUse(OutboxError): ...

    class OutboxNotDurable(OutboxError): ...


def made(name: str, place: "Callable[[str], tuple[str, bool] | None]") -> "type[SecureMQTTError]":
    """Return the class of that name, which is made the first time; `place` is the one in
    diagnose.py.
    """
    known = globals()
    if name not in known:
        found = place(name)
        if found is None:
            raise AttributeError(name)
        base, transient = found
        known.setdefault(name, type(name, (made(base, place),), {"transient": transient}))
    kind: "type[SecureMQTTError]" = known[name]
    return kind


def _missing(name: str) -> "type[SecureMQTTError]":
    if name[:1] == "_":
        raise AttributeError(name)
    return made(name, rarely("diagnose").place)


# Set in this way so that a type checker goes by the classes above, and does not take any name for
# granted.
globals()["__getattr__"] = _missing
