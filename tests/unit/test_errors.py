"""The tree of errors: each has its words, and what is foreign becomes one of them."""

import errno

from securemqtt import bundle, errors
from securemqtt.diagnosis.finding import Finding
from securemqtt.diagnosis.translate import _WHAT, refused, translate
from securemqtt.platform import TAKES_DER
from securemqtt.settings import Settings
from support.interpreters.either import class_names, directory, raised, scratch, write

WORDS = {name: (cause, remedy) for name, cause, remedy in errors._catalogue()}

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
        "ClientCertificateExpiring",
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
    "OutboxError": (
        "OutboxFull",
        "MessageTooLarge",
        "MessageRefused",
        "OutboxInUse",
        "OutboxNotDurable",
    ),
    "OutOfMemory": (),
}
# Whatever is not here needs a person.
_TRANSIENT = set(_TREE["NetworkError"]) | {
    "NetworkError",
    "BrokerFull",
    "MalformedPacket",
    "OutboxNotDurable",
    "OutOfMemory",
    "CertificateNotYetValid",  # a clock that is set, or the day that comes
    "ClockWrong",
}


def _names() -> "list[str]":
    return list(_TREE) + [name for names in _TREE.values() for name in names]


def _settings(**changes: object) -> Settings:
    values = {
        "path": "",
        "host": "broker.example",
        "port": 8883,
        "client_id": "pi",
        "keep_alive_s": 60,
        "clock_floor": 0,
        "certificate": (),
        "key": None,
    }
    values.update(changes)
    return Settings(values)


def _not_asked(settings: Settings) -> Finding:
    raise AssertionError("the broker was asked")


# The tree


def test_the_tree_is_as_it_is_drawn() -> None:
    for branch, names in _TREE.items():
        assert class_names(getattr(errors, branch))[1:2] == ["SecureMQTTError"], branch
        for name in names:
            assert class_names(getattr(errors, name))[:3] == [name, branch, "SecureMQTTError"]


def test_dir_shows_the_classes_and_nothing_else() -> None:
    shown = {name for name in dir(errors) if not name.startswith("_")}
    assert shown == {"SecureMQTTError"} | set(_names())


def test_a_star_import_gives_the_classes_and_nothing_else() -> None:
    space: dict[str, object] = {}
    exec("from securemqtt.errors import *", space)  # noqa: S102  (functions may not hold it)
    found = {name for name in space if not name.startswith("_")}
    assert found == {"SecureMQTTError"} | set(_names())
    assert space["TimedOut"] is errors.TimedOut


def test_what_is_no_error_is_not_there() -> None:
    for name in ("Error", "NoSuchError", "networkError"):
        raised("AttributeError", getattr, errors, name)


def test_an_error_is_caught_by_each_class_above_it() -> None:
    for kind in (errors.TimedOut, errors.NetworkError, errors.SecureMQTTError, Exception):
        try:
            raise errors.TimedOut("no answer")
        except kind as error:
            caught = error
        assert type(caught) is errors.TimedOut
    assert not isinstance(caught, errors.SecurityError)


def test_what_time_can_cure_says_so() -> None:
    assert {name for name in _names() if getattr(errors, name).transient} == _TRANSIENT


# Their words


def test_every_error_has_a_cause_and_a_remedy_in_words() -> None:
    for name in _names():
        error = getattr(errors, name)("/secure/x is no good", 5)
        for words in (error.cause, error.remedy):
            assert len(words) > 10, name
            assert "{" not in words, (name, words)
            assert words[-1] not in ".;,", (name, words)
        whole = (
            f"/secure/x is no good [5]. Likely cause: {error.cause}. What to do: {error.remedy}."
        )
        # The argument is what MicroPython shows in a traceback.
        assert str(error) == error.args[0] == whole
        assert (error.what, error.code) == ("/secure/x is no good", 5)


def test_every_class_is_in_the_catalogue_and_every_entry_is_a_class() -> None:
    assert {key.split(".")[0] for key in WORDS} == set(_names())
    for name in _names():
        assert name in WORDS


def test_a_variant_has_words_of_its_own() -> None:
    for key, (cause, remedy) in WORDS.items():
        name, _, variant = key.partition(".")
        error = getattr(errors, name)("it broke", None, variant, "/secure/x", None, None)
        assert error.cause == cause.replace("{}", "/secure/x"), key
        assert error.remedy == remedy.replace("{}", "/secure/x"), key
    plain = errors.WrongEncoding("it broke", variant="no such")
    assert plain.cause == WORDS["WrongEncoding"][0]


def test_an_error_names_what_it_is_about() -> None:
    assert errors.FileNotPrivate("x", about="/secure/key").remedy.startswith(
        "chmod 600 /secure/key"
    )
    assert "ping broker.example" in errors.TimedOut("x", about="broker.example").remedy
    assert "ping the broker" in errors.TimedOut("x").remedy


def test_what_others_wrote_is_shown_as_it_is_whatever_that_holds() -> None:
    foreign = "{} {0} {x!r} }{ %s %(x)s [/b] \\"
    for name in _names():
        error = getattr(errors, name)(foreign, foreign, about=foreign)
        assert str(error).startswith(foreign + " [" + foreign + "]"), str(error)
        error = getattr(errors, name)("a", cause=foreign, remedy=foreign)
        assert (error.cause, error.remedy) == (foreign, foreign)
    for error in (
        OSError(errno.ECONNREFUSED),
        OSError(errno.ECONNRESET, foreign),
        ValueError(foreign),
    ):
        ours = translate(error, "connect", _settings(host=foreign), _not_asked)
        assert ours is None or foreign in str(ours), str(ours)


def test_control_characters_of_what_others_wrote_are_escaped() -> None:
    foreign = "a\x1b[2J\r\n\x7f\x9fb" + chr(0xDC80) + "é"
    shown = "a\\x1b[2J\\x0d\\x0a\\x7f\\x9fb\\udc80é"
    error = errors.FileMissing(foreign, foreign, about=foreign)
    assert error.what == shown and shown in error.cause
    assert str(error).startswith(shown + " [" + shown + "]. ")
    path = directory("bundle") + "/a\n\x1b[2J"
    for call in (bundle.find, bundle.check_private):
        assert "/a\\x0a\\x1b[2J" in str(raised("BundleError", call, path))
    write(path, b"")
    error = raised("FileTruncated", bundle.read, scratch() + "/bundle", "a\n\x1b[2J")
    assert error.what.endswith("/a\\x0a\\x1b[2J is empty") and "\x1b" not in str(error)


def test_words_may_be_given() -> None:
    error = errors.NotTLS("it broke", cause="a mouse", remedy="a cat")
    assert str(error) == "it broke. Likely cause: a mouse. What to do: a cat."


def test_an_error_without_a_code_or_words_is_a_sentence_still() -> None:
    assert str(errors.SecureMQTTError("it broke")) == "it broke."
    assert str(errors.SecureMQTTError("it broke", code=0)) == "it broke [0]."


def test_a_subclass_of_the_users_own_has_the_words_of_its_base() -> None:
    class Slow(errors.TimedOut):
        """The user's."""

    error = Slow("it broke", variant="session", about="broker.example")
    assert error.transient
    assert (error.cause, error.remedy) == WORDS["TimedOut.session"]
    assert Slow("it broke").cause == WORDS["TimedOut"][0]


class _NoRoom:
    """Stands in for what memory does not suffice for."""

    def __getattr__(self, name: str) -> object:
        raise MemoryError("no room for " + name)


def _no_room() -> None:
    raise MemoryError("no room")


def test_an_error_that_has_no_room_for_its_words_says_where_they_are() -> None:
    kept = errors._catalogue
    errors._catalogue = _no_room
    try:
        error = errors.NotTLS("it broke", 5)
    finally:
        errors._catalogue = kept
    assert str(error) == "it broke [5]. What to do: see NotTLS in docs/errors.md."


# What is foreign


def test_errors_of_the_network_become_ours() -> None:
    for code, stage, name in (
        (errno.ECONNREFUSED, "connect", "ConnectionRefused"),
        (errno.ETIMEDOUT, "connect", "TimedOut"),
        (errno.ETIMEDOUT, "handshake", "TimedOut"),
        (errno.ETIMEDOUT, "connack", "TimedOut"),
        (errno.ETIMEDOUT, "session", "TimedOut"),
        (errno.ECONNRESET, "connect", "ConnectionLost"),
        (errno.ECONNRESET, "session", "ConnectionLost"),
        (errno.EHOSTUNREACH, "connect", "NetworkError"),
        (errno.ENOMEM, "handshake", "OutOfMemory"),
        (-2, "resolve", "NameNotResolved"),
        (errno.ETIMEDOUT, "resolve", "NameNotResolved"),
    ):
        error = translate(OSError(code, "text"), stage, _settings(), _not_asked)
        assert type(error).__name__ == name, (code, stage, error)
        assert error.transient
        assert "broker.example:8883" in error.what
        assert error.code is not None
        words = WORDS.get(name + "." + stage) or WORDS[name]
        cause = words[0].replace("{}", "broker.example")
        assert error.cause == cause, (code, stage, error)


def test_each_error_of_a_connection_is_said_in_words() -> None:
    for name in ("NetworkError",) + _TREE["NetworkError"] + _TREE["SecurityError"]:
        # What the broker says of our certificate has words of its own.
        assert name.startswith("ClientCertificate") or getattr(errors, name) in _WHAT, name


def test_memory_that_ran_out_becomes_ours() -> None:
    error = translate(
        MemoryError("memory allocation failed, allocating 16384 bytes"),
        "session",
        _settings(),
        _not_asked,
    )
    assert type(error) is errors.OutOfMemory
    assert error.cause == WORDS["OutOfMemory"][0]


def test_memory_that_runs_out_for_the_words_too_becomes_ours() -> None:
    error = translate(OSError(errno.ETIMEDOUT), "session", _NoRoom(), _not_asked)
    assert type(error) is errors.OutOfMemory
    assert error.remedy == "see OutOfMemory in docs/errors.md"


def test_what_is_ours_already_or_a_mistake_in_the_program_stays_as_it_is() -> None:
    foreign = (errors.MalformedPacket("x"), KeyError("x"), TypeError("x"), ValueError("x"))
    for error in foreign:
        assert translate(error, "session", _settings(), _not_asked) is None


# What a second attempt found; a handshake that ended without a word makes it.


def _asked(finding: Finding, **changes: object) -> errors.SecureMQTTError:
    error = translate(
        OSError(errno.ECONNRESET, "text"), "handshake", _settings(**changes), lambda s: finding
    )
    assert error.code == errno.ECONNRESET or str(errno.ECONNRESET) in error.code
    return error


def test_the_broker_is_asked_where_it_ended_a_handshake_without_a_word() -> None:
    for kind in (errors.BrokerFull, errors.NotTLS, errors.TimedOut, errors.ConnectionLost):
        assert type(_asked(Finding(kind))) is kind
    unfit = _asked(Finding(errors.HandshakeFailed, variant="certificate"))
    assert unfit.what == "the certificate of broker.example:8883 is not acceptable"
    assert unfit.cause == WORDS["HandshakeFailed.certificate"][0]


def test_a_certificate_out_of_time_tells_what_the_clock_says() -> None:
    expired = _asked(Finding(errors.CertificateExpired))
    assert type(expired) is errors.CertificateExpired and "clock says 20" in expired.what
    early = _asked(Finding(errors.CertificateNotYetValid))
    assert type(early) is errors.CertificateNotYetValid and "clock says 20" in early.what
    wrong = _asked(Finding(errors.CertificateNotYetValid), clock_floor=1 << 36)
    assert type(wrong) is errors.ClockWrong and "ntp_host" in wrong.remedy


def test_each_alert_has_its_error_where_the_device_has_no_certificate() -> None:
    for alert, name in (
        (None, "ClientCertificateMissing"),
        (40, "ClientCertificateMissing"),
        (42, "ClientCertificateMissing"),
        (47, "HandshakeFailed"),
        (70, "TLSVersionTooOld"),
        (80, "HandshakeFailed"),
        (112, "HostNameMismatch"),
        (116, "ClientCertificateMissing"),
    ):
        error = _asked(Finding(errors.HandshakeFailed, alert=alert, refused=True))
        assert type(error).__name__ == name, alert
        assert (alert is None) == ("TLS alert" not in str(error.code)), alert
    assert error.what == "broker.example:8883 wants a certificate, and this device has none"


def test_a_diagnosis_that_memory_does_not_suffice_for_goes_by_what_is_there() -> None:
    def probe(settings: Settings) -> Finding:
        raise MemoryError

    lost = translate(OSError(errno.ECONNRESET, "text"), "handshake", _settings(), probe)
    assert type(lost) is errors.ConnectionLost
    assert "too little memory to ask" in lost.cause
    if TAKES_DER:  # mbedTLS has said at least that there was an alert
        alerted = translate(OSError(-30592, "text"), "handshake", _settings(), probe)
        assert type(alerted) is errors.ClientCertificateMissing


def test_a_file_that_is_gone_when_the_broker_is_asked_is_what_is_wrong() -> None:
    def probe(settings: Settings) -> Finding:
        raise errors.FileMissing("/secure/key cannot be read", 2, about="/secure/key")

    error = translate(OSError(errno.ECONNRESET, "text"), "handshake", _settings(), probe)
    assert type(error) is errors.FileMissing


def test_a_keep_alive_that_is_long_may_be_why_an_id_is_refused() -> None:
    """Mosquitto answers both alike: see test_broker_process.py."""
    for keep_alive_s in (5, 60, 3600):
        error = refused(2, _settings(keep_alive_s=keep_alive_s))
        assert "keep_alive" not in str(error)
    for keep_alive_s in (3601, 65535):
        error = refused(2, _settings(keep_alive_s=keep_alive_s))
        assert type(error) is errors.ClientIdRefused
        assert error.what.endswith("asks for keep_alive_s={}".format(keep_alive_s))  # noqa: UP032
        assert "keep_alive_s" in error.cause and "3600" in error.remedy
        assert "keep_alive" not in str(refused(5, _settings(keep_alive_s=keep_alive_s)))


def test_each_return_code_of_connack_has_its_error() -> None:
    names = {
        1: "ProtocolRefused",
        2: "ClientIdRefused",
        3: "BrokerFull",
        4: "NotAuthorised",
        5: "NotAuthorised",
        6: "ProtocolRefused",
        255: "ProtocolRefused",
    }
    for return_code, name in names.items():
        error = refused(return_code, _settings())
        assert type(error).__name__ == name
        assert error.what == "broker.example:8883 refused the session of pi"
        assert error.code == return_code
        assert error.cause and error.remedy
