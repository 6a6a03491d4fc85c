"""Errors with their words. Loaded when something went wrong; a board forgets it again.

The words are in words_*.py, a module per branch of the tree of errors, so that a board reads one of
them only. The way from foreign errors to ours is in faults.py.
"""

from ._compat import TYPE_CHECKING, rarely
from .errors import made

if TYPE_CHECKING:
    from typing import Any

    from .errors import SecureMQTTError

# The branches of the tree, each with what is on it, as drawn in errors.py; an exclamation mark
# after what can pass by itself.
_BRANCHES = (
    ("Usage", "InvalidTopic InvalidPayload NotSupported"),
    (
        "Bundle",
        "BundleNotFound FileMissing FileTruncated FileNotPrivate WrongEncoding WrongKeyPassword "
        "KeyMismatch",
    ),
    (
        "Network",
        "NetworkError! NameNotResolved! ConnectionRefused! TimedOut! ConnectionLost! "
        "WiFiNotConnected!",
    ),
    (
        "Security",
        "NotTLS TLSVersionTooOld HandshakeFailed UnknownCA CertificateExpired "
        "CertificateNotYetValid! ClockWrong! HostNameMismatch "
        "ClientCertificateMissing ClientCertificateExpired ClientCertificateRefused "
        "ClientCertificateRevoked",
    ),
    (
        "Broker",
        "NotAuthorised ClientIdRefused BrokerFull! ProtocolRefused SubscriptionRefused "
        "MalformedPacket!",
    ),
    ("Outbox", "OutboxFull MessageTooLarge OutboxInUse OutboxNotDurable! OutOfMemory!"),
)
# They are on no branch, and have their words where they fit best.
_BRANCHLESS = ("MalformedPacket", "OutOfMemory")
# By return code of CONNACK (MQTT 3.1.1, table 3.1); what the table does not know, no MQTT 3.1.1
# broker says.
_REFUSALS = (
    "",
    "ProtocolRefused",
    "ClientIdRefused",
    "BrokerFull",
    "NotAuthorised",
    "NotAuthorised",
)


def place(name: str) -> "tuple[str, bool] | None":
    """Return the base of an error's class, and whether it can pass by itself; None if there is no
    such class.
    """
    word, passes = _find(name)
    if not word:
        return None
    return (
        "SecureMQTTError" if name == word + "Error" or name in _BRANCHLESS else word + "Error",
        passes,
    )


def _find(name: str) -> "tuple[str, bool]":
    """Return the branch where a class's words are, and whether it can pass by itself."""
    for word, names in _BRANCHES:
        for one in names.split():
            if name == one or name + "!" == one:
                return word, name != one
        if name == word + "Error":
            return word, False
    return "", False


def explain(
    name: str, what: str, code: object = None, variant: object = None, about: str = ""
) -> "SecureMQTTError":
    """Make the error of class `name` with its cause and remedy in words, those of a `variant` if
    there are any.

    `about` is what the words call {}: a file, with which `what` begins then, or the broker's host.
    """
    on = _find(name)[0]
    words = rarely("words_" + on.lower()).WORDS
    cause, remedy = words.get("{}.{}".format(name, variant)) or words[name]
    about = about or (what.split(" is ")[0].split(" can")[0] if on == "Bundle" else "the broker")
    error: "SecureMQTTError" = made(name, place)(
        what, cause.replace("{}", about), remedy.replace("{}", about), code
    )
    return error


def refused(return_code: int, settings: "dict[str, Any]") -> "SecureMQTTError":
    """See failure.refused."""
    name = _REFUSALS[return_code] if 0 < return_code < 6 else "ProtocolRefused"
    what = "{}:{} refused the session of {}".format(
        settings["host"], settings["port"], settings["client_id"]
    )
    return explain(name, what, return_code, None, settings["host"])
