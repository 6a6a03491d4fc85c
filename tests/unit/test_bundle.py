"""The bundle's config.json and the options of Client: found, read, checked, before anything touches
the network.
"""

import json
import os

from securemqtt import bundle, config
from securemqtt.errors import SecureMQTTError
from support.interpreters.either import MICROPYTHON, directory, raised, scratch, set_mode, write

_GOOD = {
    "format": 1,
    "client_id": "pi-1",
    "host": "mqtt.local",
    "ca": ["ca.der"],
    "certificate": "device.der",
    "key": "device.key",
}


def _load(content: object = None, **options: object) -> "config.Settings":
    """Load a bundle with this content of config.json, the good one by default, and these
    options.
    """
    path = directory("bundle")
    write(path + "/config.json", json.dumps(_GOOD if content is None else content))
    return config.load(path, options)


def test_a_bundle_gives_its_settings_over_the_defaults() -> None:
    settings = _load()
    assert settings.path == scratch() + "/bundle"
    assert (settings.client_id, settings.host, settings.port) == (
        "pi-1",
        "mqtt.local",
        8883,
    )
    assert (settings.keep_alive_s, settings.clean_session, settings.outbox_full) == (
        60,
        False,
        "refuse",
    )


def test_without_a_certificate_there_must_be_a_password() -> None:
    def without(**options: object) -> None:
        options = dict({"host": "mqtt.local", "client_id": "pi-1"}, **options)
        bundle.check_without_certificate(config.load(None, options))

    write(scratch() + "/password", "correct horse\n")
    set_mode(scratch() + "/password", "600")
    without(username="u", password="p")
    without(username="u", password="")
    without(username="u", password_file=scratch() + "/password")
    for options in ({}, {"username": "u"}):
        what = raised("UsageError", without, **options).what
        assert what.startswith("there is no certificate by which the broker could know")
    what = raised("UsageError", without, username="u", password="p", key="device.key").what
    assert what == "a key is given, but no certificate"


def test_options_come_before_the_bundle() -> None:
    settings = _load(dict(_GOOD, port=1, keep_alive_s=100), port=2)
    assert (settings.port, settings.keep_alive_s) == (2, 100)


def test_an_application_may_keep_settings_of_its_own_in_the_bundle() -> None:
    assert _load(dict(_GOOD, greenhouse="south")).client_id == "pi-1"


def test_an_option_that_does_not_exist_is_refused_by_name() -> None:
    assert "keepalive" in raised("UsageError", _load, keepalive=60).what


def test_a_directory_without_a_bundle_is_named() -> None:
    assert scratch() in raised("BundleNotFound", config.load, scratch(), {}).what


def test_the_environment_names_the_bundle() -> None:
    _load()
    raised("BundleNotFound", bundle.find, scratch() + "/elsewhere")
    os.putenv("SECUREMQTT_BUNDLE", scratch() + "/bundle")
    if hasattr(os, "environ"):  # CPython reads a copy that putenv does not change
        os.environ["SECUREMQTT_BUNDLE"] = scratch() + "/bundle"
    try:
        assert bundle.find(None) == scratch() + "/bundle"
        assert config.load(None, {}).client_id == "pi-1"
    finally:
        os.unsetenv("SECUREMQTT_BUNDLE")
        if hasattr(os, "environ"):
            del os.environ["SECUREMQTT_BUNDLE"]


def test_a_config_that_is_damaged_is_an_error_of_the_bundle() -> None:
    _load()
    path = scratch() + "/bundle/config.json"
    for content in (
        b"",
        b"{",
        b'{"host": ',
        b'{"host": "a"',
        b'{"host": {"a": 1}',
        b'{"host": "}"',
        b"\xff\xfe{}",
        b"[]",
        b"[1]",
        b"null",
        b"7",
        b'"text"',
    ):
        write(path, content)
        error = raised("BundleError", config.load, scratch() + "/bundle", {})
        assert path in str(error), content


def test_a_config_that_is_nested_too_deeply_is_an_error_of_the_bundle_or_read() -> None:
    """MicroPython's reader needs no stack for that, and the application's keys may be anything."""
    # CPython gives up at 1,000, or 10,000, or where its stack is full, as its version has it.
    for depth in (10, 5000 if MICROPYTHON else 200_000):
        content = json.dumps(_GOOD)[:-1] + ', "mine": ' + "[" * depth + "]" * depth + "}"
        write(directory("bundle") + "/config.json", content)
        if depth == 10 or MICROPYTHON:
            assert config.load(scratch() + "/bundle", {}).client_id == "pi-1"
        else:
            raised("FileTruncated", config.load, scratch() + "/bundle", {})


def test_settings_out_of_range_are_refused_by_name() -> None:
    for name, values in (
        ("client_id", ("", "a/b", "x" * 65, None, 7)),
        ("host", ("", None, 7)),
        ("port", (0, 65536, -1, "8883", 8883.5, None)),
        ("keep_alive_s", (0, 4, 65536, "60", None)),
        ("window", (0, 1001, "20")),
        ("max_packet_bytes", (0, 1, 268435456, "1k", None)),
        ("connect_timeout_s", (0, -1, "30", None, 100000)),
        ("outbox_messages", (0, "10", None)),
        ("outbox_bytes", (255, "10", None)),
        ("outbox_full", ("", "drop", None)),
        ("transport", ("tcp", "ws", "", None)),
        ("ca", (7, [7], {"a": 1}, True)),
        ("certificate", (7, ["a", None])),
        ("key", (7, ["a"])),
        ("username", (7,)),
        ("password", (7,)),
        ("ntp_host", (7,)),
        ("clean_session", (None, "yes", 2)),
        ("status", ("online",)),
        ("clock_floor", (-1, "2026-01-01", None)),
    ):
        for value in values:
            assert name in raised("UsageError", _load, **{name: value}).what, (name, value)
            assert name in raised("UsageError", _load, dict(_GOOD, **{name: value})).what, (
                name,
                value,
            )


def test_settings_at_the_edge_of_their_range_are_taken() -> None:
    for name, values in (
        ("client_id", ("a", "x" * 64)),
        ("port", (1, 65535)),
        ("keep_alive_s", (5, 65535)),
        ("window", (1, 1000)),
        ("max_packet_bytes", (128, 268435455)),
        ("connect_timeout_s", (1, 2.5, 3600)),
        ("outbox_messages", (1,)),
        ("outbox_bytes", (256,)),
    ):
        for value in values:
            assert getattr(_load(**{name: value}), name) == value


def test_the_will_is_offline_on_the_devices_own_status() -> None:
    assert _load().will == ("devices/pi-1/status", b"offline", 1, True)
    assert _load(status=False).will is None


def test_a_will_of_the_users_own_takes_the_place_of_the_status() -> None:
    for will, wanted in (
        (("~/gone", "bye"), ("devices/pi-1/gone", b"bye", 1, False)),
        (["a/b", {"up": False}, 0], ("a/b", b'{"up": false}', 0, False)),
        (("a", b"\0", 1, True), ("a", b"\0", 1, True)),
    ):
        settings = _load(will=will)
        assert tuple(settings.will) == wanted
        assert not settings.status


def test_a_will_that_cannot_be_is_refused() -> None:
    for will in (
        ("a",),
        ("a", "b", 1, True, 5),
        "ab",
        7,
        {"topic": "a"},
        ("a", "b", 3),
        ("a", "b", "1"),
        ("a", "b", -1),
        ("a", "b", None),
    ):
        raised("UsageError", _load, will=will)
    for topic in ("", "+/a", "a/#", "a\0", 7, None):
        raised("InvalidTopic", _load, will=(topic, "x"))
    for payload in (object(), {1, 2}, [float("inf")], "x" * 65536):
        raised("InvalidPayload", _load, will=("a", payload))


def test_a_password_comes_from_a_file_that_is_its_owners_only() -> None:
    config = dict(_GOOD, username="pi", password_file="password")
    raised("FileMissing", _load, config)
    write(scratch() + "/bundle/password", "correct horse\n")
    for mode in ("644", "640", "604", "660", "620", "602", "610", "601"):
        set_mode(scratch() + "/bundle/password", mode)
        assert raised("FileNotPrivate", _load, config).code == "0" + mode
    set_mode(scratch() + "/bundle/password", "600")
    assert _load(config).password == "correct horse"
    assert _load(config, password="another").password == "another"
    write(scratch() + "/bundle/password", b"\xff")
    raised("FileTruncated", _load, config)


def test_whatever_the_config_says_only_our_errors_come() -> None:
    values = (None, True, 0, -1, 1.5, "", "x", [], [None], {}, {"a": 1}, 1 << 40)
    for name in _GOOD:
        for value in values:
            try:
                _load(dict(_GOOD, **{name: value}))
            except SecureMQTTError as error:
                assert error.remedy
