"""What is said of a wrong option and of a wrong argument of a call: at once, the same on both
interpreters, and never with a secret in it.
"""

import json
import time

from securemqtt import Client, Message, log_to
from securemqtt.config import load
from securemqtt.log import quoted
from securemqtt.messages import Delivery
from securemqtt.schema import OPTIONS
from support.interpreters.either import directory, raised, scratch, set_mode, write
from support.models.history import History
from support.speed import seconds

_GOOD = {"host": "mqtt.local", "client_id": "pi-1"}
_NAN, _INFINITY = float("nan"), float("inf")
_NO_DURATIONS = ("3", b"3", None, True, _NAN, _INFINITY, -_INFINITY, 1e30, 1 << 70, [], object())
_SOON_S = seconds(5)


class _Path:
    """A path that is no str, as pathlib has them."""

    def __init__(self, text: "object") -> None:
        self._text = text

    def __fspath__(self) -> "object":
        return self._text


class Path:
    """As micropython-lib has it: without `__fspath__`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class _Device:
    """A watchdog."""

    def feed(self) -> None:
        """Do nothing."""


# Made here, while a small heap is in one piece still.
TOO_LONG = "s3cret" * 11000
LONGEST = "u" * 65535
TOO_LONG_IN_BYTES = "é" * 32768


def _load(**options: object) -> "object":
    return load(None, dict(_GOOD, **options))


def _what(**options: object) -> str:
    """Return what is said of options that are wrong."""
    return raised("UsageError", _load, **options).what


def test_a_wrong_option_is_told_with_what_is_allowed_and_what_was_given() -> None:
    assert _what(port="8883") == "port must be a whole number from 1 to 65535, not '8883'"
    assert _what(keep_alive_s=4) == "keep_alive_s must be a whole number from 5 to 65535 s, not 4"
    assert _what(outbox_full="drop") == (
        "outbox_full must be refuse, drop_oldest or drop_newest, not 'drop'"
    )
    assert _what(connect_timeout_s=_NAN).startswith(
        "connect_timeout_s must be a number from 0.1 to 3600 s, not nan"
    )
    assert _what(watchdog=5) == "watchdog must be an object with a method feed(), not 5"
    assert _what(window=[1]) == "window must be a whole number from 1 to 1000 messages, not a list"


def test_no_option_takes_a_value_of_another_type() -> None:
    wrong = {
        "whole": (None, True, 1.0, 100.0, "100", b"1", [], _NAN, _INFINITY, 1 << 90, object()),
        "seconds": (None, True, "1", [], _NAN, _INFINITY, -_INFINITY, -1, 1e9, 1 << 90),
        "flag": (None, 0, 1, 1.0, "yes", "", b"", [], object()),
        "choice": (None, 1, True, "", "TLS", b"tls", ["tls"], object()),
        "id": (None, 1, "", "a/b", "a+", "#", "a\n", b"a", ["a"], "a\0", "a" + chr(0xD800)),
        "topic": (1, True, b"a", ["a"], "", "a/", "/", "a/+", "#", "a\n", "a\0", object()),
        "name": (1, True, b"a", ["a"], "", "a b", "a\r\nb", "a\0", "x" * 2000, "\x7f", object()),
        "hosts": (
            1,
            True,
            b"a",
            "",
            "a b",
            "a\0",
            "x" * 2000,
            object(),
            {"a": 1},
            [],
            ["a"] * 17,
            ["a", 1],
            [""],
            ["a b"],
        ),
        "text": (1, True, b"a", ["a"], "a\0b", "a" + chr(0xD800)),
        "path": (1, True, b"a", ["a"], "", "a\0b", object(), _Path(b"a"), _Path(7), _Path, Path),
        "paths": (1, True, b"a", "", "a\0b", ["a", 1], [None], {"a": 1}, _Path(b"a"), object()),
        "protocols": (
            5,
            True,
            b"mqtt",
            "",
            "x" * 256,
            "é",
            ["mqtt", 5],
            ["é"],
            [""],
            {"a": 1},
            object(),
        ),
        "filters": (5, True, "a/#", [5], [""], ["x" * 65536], {"a": 1}, object()),
        "opener": (5, True, [], {"a": 1}, object()),
        "will": (5, True, "ab", (), [], ("a",), {"topic": "a"}, object(), ("a", "b", 1, False, 1)),
        "feeder": (5, True, "feed", {"feed": 1}, object()),
    }
    wrong["secret"] = wrong["text"]
    for name, kind, default, _, _, _ in OPTIONS:
        for value in wrong[kind]:
            if value is None and default is None:
                continue
            options = {"username": "u", name: value}
            assert name in _what(**options), (name, value)


def test_of_several_brokers_each_has_its_port_and_its_turn() -> None:
    names = ["a.local", "b.local:8884", "10.0.0.1:1", "[fe80::1]:2", "fe80::2"]
    expected = [
        ("a.local", 8000),
        ("b.local", 8884),
        ("10.0.0.1", 1),
        ("fe80::1", 2),
        ("fe80::2", 8000),
    ]
    firsts = set()
    for _ in range(100):
        settings = _load(host=names, port=8000)
        assert sorted(settings.hosts) == sorted(expected)
        assert (settings.host, settings.port) == settings.hosts[0]
        firsts.add(settings.host)
    assert len(firsts) == 5
    order = list(settings.hosts)
    for number, (host, port) in enumerate(order[1:] + order[:1]):
        assert settings.turn_to_next() is (number != 4)
        assert (settings.host, settings.port) == (host, port)
    alone = _load(host=["one.local"])
    assert alone.host == "one.local" and not alone.turn_to_next()


def test_of_several_brokers_what_is_no_broker_is_told() -> None:
    strange = (chr(0xB2), chr(0x663), chr(0xD800))  # two of them are digits, too
    for port in strange + ("", "1" * 5000, "-1", "+1", "1 ", "0", "65536"):  # noqa: RUF005  (MicroPython)
        for host in ("localhost", "[::1]"):
            what = _what(host=[host + ":" + port])
            assert what.startswith("port must be a whole number from 1 to 65535, not "), what
    for name in ("[::1", "::1]", "[::1:8883", "[::1]]", "[[::1]]:1", "]:1", "[a", "a]:1", "[]["):
        assert _what(host=[name]) == (
            f"host must be HOST, HOST:PORT or [ADDRESS]:PORT, not '{name}'"
        )
    for name in (":8883", "[]", "[]:8883"):
        assert _what(host=[name]) == "the broker's host is not set"


def test_the_edges_of_each_range_are_taken_and_what_is_beyond_is_not() -> None:
    for name, kind, _, allowed, _, _ in OPTIONS:
        if kind == "whole":
            for value in allowed:
                assert getattr(_load(**{name: value}), name) == value
            for value in (allowed[0] - 1, allowed[1] + 1):
                assert name in _what(**{name: value})
        elif kind == "choice":
            for value in allowed:
                options = {"outbox_dir": scratch(), "username": "u", "password": "p", name: value}
                options["certificate"] = "device.pem"
                assert getattr(_load(**options), name) == value
    for value in (0.1, 1, 3600):
        assert _load(connect_timeout_s=value).connect_timeout_s == value


def test_user_and_password_may_be_as_long_as_mqtt_can_say() -> None:
    assert len(_load(username=LONGEST).username) == 65535
    assert "username must be a str of at most 65535 bytes" in _what(username=TOO_LONG)
    assert "username" in _what(username=TOO_LONG_IN_BYTES)
    assert _what(username="", password=TOO_LONG).endswith("not this str of 66000 characters")


def test_none_is_taken_where_the_default_is_none() -> None:
    optional = [name for name, _, default, _, _, _ in OPTIONS if default is None]
    settings = _load(**dict.fromkeys(optional))
    derived = ("will", "prefix")
    assert all(getattr(settings, name) is None for name in optional if name not in derived)
    assert settings.will[0] == "devices/pi-1/status" and settings.prefix == "devices/pi-1"


def test_the_prefix_leads_status_and_will() -> None:
    settings = _load(client_id="urn:dev:1.2", prefix="home/hall")
    assert (settings.client_id, settings.prefix) == ("urn:dev:1.2", "home/hall")
    assert settings.will == ("home/hall/status", b"offline", 1, True)
    assert _load(prefix="home", will=("~/gone", "x")).will[0] == "home/gone"
    assert _load(client_id="a.b").will[0] == "devices/a.b/status"
    assert _what(prefix="a/") == (
        "prefix must be a topic without + and #, its last character no /, not 'a/'"
    )


def test_a_bundle_of_provisions_holds_to_our_own_broker() -> None:
    path = directory("bundle")
    ours = dict(_GOOD, format=1, ca="ca.pem", certificate="device.pem", key="device.key")

    def wrong(**changes: object) -> str:
        write(path + "/config.json", json.dumps(dict(ours, **changes)))
        return raised("UsageError", load, path, {}).what

    assert wrong(client_id="a.b").startswith("client_id must be 1 to 64 of A-Z a-z 0-9 _ -")
    secrets = {"username": "u", "password": "p"}
    for none in ((), None, []):
        assert wrong(certificate=none, **secrets).startswith("the bundle names no certificate")
    # One that somebody else made, or that holds another authority's certificate.
    for changes in ({"imported": True}, {"format": None}):
        config = dict(ours, client_id="a.b", certificate=[], **secrets)
        config.update(changes)
        if config["format"] is None:
            del config["format"]
        write(path + "/config.json", json.dumps(config))
        assert load(path, {}).client_id == "a.b"


def test_what_is_right_is_taken() -> None:
    settings = _load(
        alpn=["mqtt", "x-amzn-mqtt-ca"], watchdog=_Device(), key_password=lambda: b"a", ca=None
    )
    assert settings.alpn == ["mqtt", "x-amzn-mqtt-ca"] and settings.ca == ()
    assert _load(alpn="mqtt").alpn == "mqtt"
    assert _load(username="").username == ""
    assert _load(username="é\t", password="").password == ""


def test_a_path_may_be_an_object() -> None:
    write(directory("bundle") + "/config.json", json.dumps(_GOOD))
    write(directory("bundle") + "/secret", "correct horse")
    set_mode(scratch() + "/bundle/secret", "600")
    for kind in (_Path, Path):
        settings = load(
            kind(scratch() + "/bundle"),
            {
                "ca": [kind("/a/ca"), "b"],
                "certificate": kind("c"),
                "key": kind("k"),
                "outbox_dir": kind("/o"),
                "username": "u",
                "password_file": kind(scratch() + "/bundle/secret"),
            },
        )
        assert settings.path == scratch() + "/bundle"
        assert (settings.ca, settings.certificate, settings.key, settings.outbox_dir) == (
            ["/a/ca", "b"],
            "c",
            "k",
            "/o",
        )
        assert settings.password == "correct horse"
    for path in (5, True, b"a", "", "a\0b", [scratch()], _Path(b"a"), object()):
        assert raised("UsageError", Client, path).what.startswith("bundle must be a str or a Path")


def test_an_option_that_is_misspelt_is_told_which_was_meant() -> None:
    for name, meant in (
        ("hots", "host"),
        ("keepalive", "keep_alive_s"),
        ("keep_alive", "keep_alive_s"),
        ("client_identity", "client_id"),
        ("timeout", "connect_timeout_s"),
        ("user_name", "username"),
        ("passwd", "password"),
        ("prot", "port"),
        ("certificates", "certificate"),
        ("Host", "host"),
        ("id", "client_id"),
    ):
        assert _what(**{name: 1}) == f"Client has no option {name!r}; the nearest is {meant}", name
    for name in ("colour", "x", "s", "zzzzzzzzzzzz", "qos", "x" * 250, "é\n"):
        what = _what(**{name: 1})
        assert "meant" not in what and len(what) < 150 and "\n" not in what


def test_a_password_without_a_username_is_refused() -> None:
    for options in ({"password": "p"}, {"password_file": "/nowhere"}):
        assert "without username" in _what(**options)


def test_no_secret_is_in_an_error() -> None:
    for options in (
        {"password": TOO_LONG},
        {"password": "s3cret\0"},
        {"password": ["s3cret"]},
        {"password": b"s3cret"},
        {"key_password": ["s3cret"]},
        {"password": "s3cret"},
    ):
        error = raised("UsageError", _load, **options)
        assert "s3cret" not in str(error) and "password" in error.what


def test_what_was_given_is_shown_short_and_escaped() -> None:
    assert quoted("a\x1b[2J\n") == "'a\\x1b[2J\\n'"
    assert quoted("x" * 10000) == "'" + "x" * 60 + "'… (10000 in all)"
    assert quoted(10**9999) == quoted(-(10**9999)) == "an int beyond 64 bits"
    assert (quoted(None), quoted(True), quoted(1 << 63)) == ("None", "True", "9223372036854775808")

    class Liar:
        def __repr__(self) -> str:
            raise KeyError("of a test")

    assert quoted(Liar()) == "a Liar"
    assert _what(port=Liar()).endswith(", not a Liar")
    assert len(_what(host="h" * 10000)) < 200


def test_a_will_is_checked_whole() -> None:
    for will in (
        ("a", "b", 1.0),
        ("a", "b", True),
        ("a", "b", 3),
        ("a", "b", 1, 1),
        ("a", "b", 1, "yes"),
        ("a", "b", 1, None),
    ):
        assert _what(will=will).startswith("the will's ")
    assert _load(will=("a", "b", 2, True)).will == ("a", b"b", 2, True)


# The calls


def test_a_duration_that_is_none_is_refused_at_once() -> None:
    with History(1) as history:
        began = time.time()
        client = history.client
        delivery = client.publish("a", b"")
        dropped = Delivery("a", b"", 1, False, None, delivery.waiter)
        dropped.dropped = True
        for value in _NO_DURATIONS:
            for call in (
                client.wait,
                client.connect,
                client.flush,
                client.disconnect,
                delivery.wait,
                dropped.wait,
            ):
                assert "number of seconds" in raised("UsageError", call, value).what
            if value is not None:
                error = raised("UsageError", client.publish, "a", b"", expires_s=value)
                assert error.what.startswith("expires_s must be a number of seconds up to ")
        raised("UsageError", client.wait, "1" * 1000)
        assert client.pending == 1 and client.state != "closed"
        client.disconnect(0)
        raised("UsageError", client.disconnect, "0")
    assert time.time() - began < _SOON_S


def test_a_duration_below_0_has_passed_already() -> None:
    with History(1) as history:
        client = history.client
        for seconds in (-1, -0.5, -1e9):
            client.wait(seconds)
            assert client.flush(seconds) in (True, False)
        delivery = client.publish("a", b"", expires_s=-5)
        assert not delivery.wait(-1)
        history.come_to_rest()
        assert delivery.dropped and not delivery.acknowledged
        assert not delivery.wait(1000)


def test_what_is_to_be_called_must_be_a_function() -> None:
    with History(1) as history:
        client = history.client
        for value in (None, 5, "print", [], True):
            raised("UsageError", client.subscribe, "new/+", value)
            if value is not None:
                for call in (client.on_state, client.on_error, log_to):
                    raised("UsageError", call, value)
        client.on_state(None)
        client.on_error(None)
        history.come_to_rest()
        assert history.broker.filters == {"c/x"}


def test_how_a_message_is_sent_is_checked_by_type() -> None:
    with History(1) as history:
        client = history.client
        client.publish("a", b"")
        for value in (None, 0, 1, 2, 1.0, "yes", []):
            raised("UsageError", client.publish, "a", b"", 1, value)
            raised("UsageError", client.publish, "a", b"", 1, False, None, value)
            raised("UsageError", client.publish, "another", b"", 1, value)
        for value in (None, True, False, 1.0, "1", -1, 3, 1 << 80):
            raised("UsageError", client.publish, "a", b"", value)
            raised("UsageError", client.publish, "another", b"", value)
            raised("UsageError", client.subscribe, "a", print, value)
        assert client.pending == 1
        client.publish("a", b"", 2, True, 5, True)


# What they show of themselves


def test_what_is_shown_of_a_message_is_short_and_escaped() -> None:
    message = Message("a\x1b[2J\n/é", b"s3cret" * 5000, 1, True, True)
    assert repr(message).startswith("<Message 'a\\x1b[2J\\n/")
    assert repr(message).endswith(": 30000 bytes, QoS 1, retained, dup>")
    assert "s3cret" not in repr(message)
    assert repr(Message("a/b")) == "<Message 'a/b': 0 bytes, QoS 0>"
    assert len(repr(Message(LONGEST))) < 150


def test_what_is_shown_of_a_delivery_has_its_state() -> None:
    delivery = Delivery("a/b", b"s3cret", 1, False)
    assert repr(delivery) == "<Delivery 'a/b': 6 bytes, QoS 1, pending>"
    delivery.dropped = True
    assert repr(delivery) == "<Delivery 'a/b': 6 bytes, QoS 1, dropped>"
    delivery.dropped, delivery.acknowledged = False, True
    assert repr(delivery) == "<Delivery 'a/b': 6 bytes, QoS 1, acknowledged>"


def test_what_is_shown_of_a_client_has_its_state_and_no_secret() -> None:
    with History(1) as history:
        assert repr(history.client) == "<Client d at broker.example:8883: starting, 0 pending>"
        history.client.publish("a", b"s3cret")
        assert repr(history.client).endswith(", 1 pending>")


def test_a_durable_outbox_lies_in_a_directory_that_is_there() -> None:
    for wrong in (scratch() + "/typo/outbox", scratch() + "/file/outbox"):
        write(scratch() + "/file", b"no directory")
        what = _what(outbox="durable", outbox_dir=wrong)
        assert what.startswith("outbox_dir must lie in a directory that is there"), what
    assert _load(outbox="durable", outbox_dir=scratch() + "/outbox").outbox_dir


def test_a_durable_outbox_in_the_place_of_a_file_is_refused() -> None:
    write(scratch() + "/file", b"mine")
    what = _what(outbox="durable", outbox_dir=scratch() + "/file")
    assert what.startswith("outbox_dir must be a directory, and "), what
    path = directory("bundle")
    write(path + "/config.json", json.dumps(_GOOD))
    write(path + "/outbox", b"mine")
    raised("UsageError", load, path, {"outbox": "durable"})


def test_a_durable_outbox_is_relative_to_the_bundle_and_else_absolute() -> None:
    path = directory("bundle")
    write(path + "/config.json", json.dumps(dict(_GOOD, outbox="durable", outbox_dir="state")))
    assert load(path, {}).outbox_dir == path + "/state"
    assert load(path, {"outbox_dir": "other/"}).outbox_dir == path + "/other/"
    assert load(path, {"outbox_dir": None}).outbox_dir == path + "/outbox"
    assert load(path, {"outbox_dir": scratch() + "/o"}).outbox_dir == scratch() + "/o"
    assert "bundle/typo" in raised("UsageError", load, path, {"outbox_dir": "typo/outbox"}).what
    for relative in ("outbox", "./outbox", "~/outbox"):
        what = _what(outbox="durable", outbox_dir=relative)
        assert what.startswith("outbox_dir must be an absolute path where there is no bundle"), what


def test_another_id_than_the_bundles_is_warned_of() -> None:
    path = directory("bundle")
    config = {"host": "mqtt.local", "client_id": "theirs"}
    write(path + "/config.json", json.dumps(config))
    told = []
    log_to(lambda level, text: told.append(text))
    try:
        assert load(path, {"client_id": "theirs"}).client_id == "theirs" and not told
        assert load(path, {"client_id": "ours"}).client_id == "ours"
    finally:
        log_to(None)
    assert len(told) == 1 and "'theirs'" in told[0] and "'ours'" in told[0]
