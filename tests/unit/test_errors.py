"""The tree of errors: each has its words, foreign errors become ours, and what time can cure says
so.
"""

import errno

from securemqtt import errors
from securemqtt.failure import base, failure, refused, translated
from support.either import class_names, raised

_SETTINGS = {
    "host": "broker.example",
    "port": 8883,
    "client_id": "pi",
    "clock_floor": 0,
    "path": "",
}
# Branch, and what is under it; errors.py draws the same.
_TREE = {
    "UsageError": ("InvalidTopic", "InvalidPayload", "NotSupported"),
    "BundleError": (
        "BundleNotFound",
        "FileMissing",
        "FileTruncated",
        "FileNotPrivate",
        "WrongEncoding",
        "WrongKeyPassword",
        "KeyMismatch",
    ),
    "NetworkError": (
        "NameNotResolved",
        "ConnectionRefused",
        "TimedOut",
        "ConnectionLost",
        "WiFiNotConnected",
    ),
    "SecurityError": (
        "NotTLS",
        "TLSVersionTooOld",
        "HandshakeFailed",
        "UnknownCA",
        "CertificateExpired",
        "CertificateNotYetValid",
        "ClockWrong",
        "HostNameMismatch",
        "ClientCertificateMissing",
        "ClientCertificateExpired",
        "ClientCertificateRefused",
        "ClientCertificateRevoked",
    ),
    "BrokerError": (
        "NotAuthorised",
        "ClientIdRefused",
        "BrokerFull",
        "ProtocolRefused",
        "SubscriptionRefused",
    ),
    "MalformedPacket": (),
    "OutboxError": ("OutboxFull", "MessageTooLarge"),
    "OutOfMemory": (),
}
# Whatever is not here needs a person.
_TRANSIENT = set(_TREE["NetworkError"]) | {
    "NetworkError",
    "BrokerFull",
    "MalformedPacket",
    "OutOfMemory",
    "CertificateNotYetValid",  # a clock that is set, or the day that comes
    "ClockWrong",
}


def _names() -> "list[str]":
    return list(_TREE) + [name for names in _TREE.values() for name in names]


def test_every_error_has_a_cause_and_a_remedy_in_words() -> None:
    for name in _names():
        error = failure(name, "/secure/x is no good", 5)
        assert type(error) is getattr(errors, name)
        for words in (error.cause, error.remedy):
            assert len(words) > 10, name
            assert "{" not in words, (name, words)
            assert words[-1] not in ".;,", (name, words)
        assert (
            str(error)
            == f"/secure/x is no good [5]. Likely cause: {error.cause}. What to do: {error.remedy}."
        )


def test_the_tree_is_as_it_is_drawn() -> None:
    assert base() is errors.SecureMQTTError
    for branch, names in _TREE.items():
        assert class_names(getattr(errors, branch))[1:2] == ["SecureMQTTError"], branch
        for name in names:
            assert class_names(getattr(errors, name))[:3] == [name, branch, "SecureMQTTError"]


def test_a_class_is_the_same_each_time() -> None:
    for name in _names():
        assert getattr(errors, name) is getattr(errors, name)
        assert type(failure(name, "x")) is getattr(errors, name)


def test_what_is_no_error_is_not_there() -> None:
    for name in ("Error", "NoSuchError", "_private", "networkError"):
        raised("AttributeError", getattr, errors, name)


def test_what_time_can_cure_says_so() -> None:
    assert {name for name in _names() if getattr(errors, name).transient} == _TRANSIENT


def test_an_error_without_a_code_or_words_is_a_sentence_still() -> None:
    assert str(errors.SecureMQTTError("it broke")) == "it broke."
    assert str(errors.SecureMQTTError("it broke", code=0)) == "it broke [0]."


def test_errors_of_the_network_become_ours() -> None:
    for code, stage, name in (
        (errno.ECONNREFUSED, "connect", "ConnectionRefused"),
        (errno.ETIMEDOUT, "connect", "TimedOut"),
        (errno.ETIMEDOUT, "handshake", "TimedOut"),
        (errno.ETIMEDOUT, "connack", "TimedOut"),
        (errno.ETIMEDOUT, "session", "TimedOut"),
        (errno.ECONNRESET, "session", "ConnectionLost"),
        (errno.EHOSTUNREACH, "connect", "NetworkError"),
        (-2, "resolve", "NameNotResolved"),
    ):
        error = translated(OSError(code, "text"), stage, _SETTINGS)
        assert type(error).__name__ == name, (code, stage, error)
        assert error.transient
        assert "broker.example:8883" in error.what
        assert error.code is not None


def test_memory_that_ran_out_becomes_ours() -> None:
    error = translated(
        MemoryError("memory allocation failed, allocating 16384 bytes"), "session", _SETTINGS
    )
    assert type(error).__name__ == "OutOfMemory"


def test_what_is_ours_already_or_a_mistake_in_the_program_stays_as_it_is() -> None:
    for error in (failure("MalformedPacket", "x"), KeyError("x"), TypeError("x"), IndexError("x")):
        assert translated(error, "session", _SETTINGS) is None


def test_each_return_code_of_connack_has_its_error() -> None:
    names = {
        1: "ProtocolRefused",
        2: "ClientIdRefused",
        3: "BrokerFull",
        4: "NotAuthorised",
        5: "NotAuthorised",
        6: "ProtocolRefused",
    }
    names[255] = "ProtocolRefused"
    for return_code, name in names.items():
        error = refused(return_code, _SETTINGS)
        assert type(error).__name__ == name
        assert error.code == return_code
        assert error.cause and error.remedy
