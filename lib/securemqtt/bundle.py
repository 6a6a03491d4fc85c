"""The device bundle on disk: find it, read its `config.json`, read its files.

The format is in docs/ARCHITECTURE.md.
"""

import os

from ._compat import MAX_PACKET_BYTES, OUTBOX_BYTES, OUTBOX_MESSAGES, TYPE_CHECKING, usual_places
from .failure import failure
from .files import check_private, full_name, read, read_json
from .topics import expand, fault, valid_id

if TYPE_CHECKING:
    from typing import Any

# Beside these, config.json may hold keys of its own for an application: unknown ones are left alone
# there, and refused as options.
_DEFAULTS = {
    "host": "",
    "port": 8883,
    "client_id": "",
    "transport": "tls",
    "ws_path": "/mqtt",
    "alpn": None,
    "system_trust": False,
    "ca": (),
    "certificate": (),
    "key": None,
    "key_password": None,
    "username": None,
    "password": None,
    "password_file": None,
    "keep_alive_s": 60,
    "clean_session": False,
    "will": None,
    "status": True,
    "clock_floor": 0,
    "ntp_host": None,
    "window": 20,
    "max_packet_bytes": MAX_PACKET_BYTES,
    "connect_timeout_s": 30,
    "outbox": "ram",
    "outbox_messages": OUTBOX_MESSAGES,
    "outbox_bytes": OUTBOX_BYTES,
    "outbox_full": "refuse",
    "outbox_dir": None,
    "outbox_fsync": "each",
    "outbox_interval_s": 1,
    "outbox_journal_bytes": None,
    "watchdog": None,
}

_RANGES = (
    ("port", 1, 65535),
    ("keep_alive_s", 5, 65535),
    ("window", 1, 1000),
    ("max_packet_bytes", 128, 268435455),
    ("connect_timeout_s", 0.1, 3600),
    ("clock_floor", 0, 1 << 36),
    ("outbox_messages", 1, 1 << 30),
    ("outbox_bytes", 256, 1 << 40),
    ("outbox_interval_s", 0.01, 3600),
    ("outbox_journal_bytes", 32768, 1 << 40),
)


def find(path: "str | None") -> str:
    """Return the bundle's directory: `path`, else $SECUREMQTT_BUNDLE, else the interpreter's usual
    places. BundleNotFound if none has one.
    """
    places = [path] if path else usual_places()
    for place in places:
        if _exists(place + "/config.json"):
            return place
    raise failure("BundleNotFound", "no config.json in " + " or ".join(places))


def settings_of(path: "str | None", options: "dict[str, Any]") -> "dict[str, Any]":
    """Return what `load` gives, to be kept.

    On a board that is a list: provisioning has settings["host"] be an index into it.
    """
    return load(path, options)


def load(path: "str | None", options: "dict[str, Any]") -> "dict[str, Any]":
    """Read the bundle's `config.json`, put `options` over it, check what can be checked without the
    network; return the settings.
    """
    for name in options:
        if name not in _DEFAULTS:
            raise failure("UsageError", "Client has no option " + name)
    settings: "dict[str, Any]" = dict(_DEFAULTS)
    if path is not None or not options.get("host"):
        directory = find(path)
        settings["path"] = directory
        settings.update(read_json(directory, "config.json"))
    else:
        settings["path"] = ""
    settings.update(options)
    _check(settings)
    _prepare_will(settings)
    if settings["password_file"] and settings["password"] is None:
        settings["password"] = _secret(settings["path"], settings["password_file"])
    return settings


def _check(settings: "dict[str, Any]") -> None:
    if not valid_id(settings["client_id"]):
        raise failure(
            "UsageError",
            "client_id must be 1 to 64 of A-Z a-z 0-9 _ -, not " + repr(settings["client_id"]),
        )
    if not settings["host"]:
        raise failure("UsageError", "the broker's host is not set")
    for name in (
        "host",
        "ws_path",
        "key",
        "username",
        "password",
        "password_file",
        "ntp_host",
        "outbox_dir",
    ):
        value = settings[name]
        if not isinstance(value, str) and (value is not None or name == "host"):
            raise failure("UsageError", "{} must be a str, not {!r}".format(name, value))
    for name in ("ca", "certificate"):
        value = settings[name]
        if (
            value
            and not isinstance(value, str)
            and not (
                isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
            )
        ):
            raise failure(
                "UsageError", "{} must be a list of names of files, not {!r}".format(name, value)
            )
    for name in ("clean_session", "status", "system_trust"):
        if settings[name] not in (True, False):
            raise failure(
                "UsageError", "{} must be True or False, not {!r}".format(name, settings[name])
            )
    for name, low, high in _RANGES:
        value = settings[name]
        if value is None and name == "outbox_journal_bytes":
            continue
        if (
            not isinstance(
                value, (int, float) if name in ("connect_timeout_s", "outbox_interval_s") else int
            )
            or not low <= value <= high
        ):
            raise failure(
                "UsageError",
                "{} must be a whole number from {} to {}, not {!r}".format(name, low, high, value),
            )
    if settings["outbox_full"] not in ("refuse", "drop_oldest", "drop_newest"):
        raise failure("UsageError", "outbox_full must be refuse, drop_oldest or drop_newest")
    if settings["outbox"] not in ("ram", "durable"):
        raise failure("UsageError", "outbox must be ram or durable")
    if settings["outbox_fsync"] not in ("each", "interval"):
        raise failure("UsageError", "outbox_fsync must be each or interval")
    if settings["outbox"] == "durable" and not (settings["outbox_dir"] or settings["path"]):
        raise failure(
            "UsageError",
            "a durable outbox without a bundle needs outbox_dir, the directory to keep it in",
        )
    if settings["transport"] not in ("tls", "wss"):
        raise failure("UsageError", "transport must be tls or wss: there is none without TLS")


def _prepare_will(settings: "dict[str, Any]") -> None:
    """Settle the will: the user's own (topic, payload, qos=1, retain=False), or `offline` on
    ~/status, retained.
    """
    will = settings["will"]
    client_id = settings["client_id"]
    if not will:
        if settings["status"]:
            settings["will"] = (expand("~/status", client_id), b"offline", 1, True)
        return
    if not isinstance(will, (list, tuple)) or not 2 <= len(will) <= 4:
        raise failure(
            "UsageError", "will must be (topic, payload, qos, retain), not {!r}".format(will)
        )
    topic, payload, qos, retain = tuple(will) + (1, False)[len(will) - 2 :]
    if isinstance(topic, str):
        topic = expand(topic, client_id)
    wrong = fault(topic, False)
    if wrong:
        raise failure("InvalidTopic", "the will's topic {!r}: {}".format(topic, wrong))
    if qos not in (0, 1, 2):
        raise failure("UsageError", "the will's qos must be 0, 1 or 2, not {!r}".format(qos))
    from .payload import encode

    try:
        content = encode(payload)
    except (TypeError, ValueError, RuntimeError) as error:
        raise failure(
            "InvalidPayload", "the will's payload is neither bytes nor str nor JSON", str(error)
        )
    if len(content) > 65535:
        raise failure(
            "InvalidPayload", "the will's payload is longer than 65,535 bytes", len(content)
        )
    settings["will"] = (topic, content, qos, retain)
    settings["status"] = False  # there is one will only, and a birth without its will would lie


def _secret(directory: str, name: str) -> str:
    """Read a password from an owner-only file; the end of its line is no part of it."""
    path = full_name(directory, name)
    check_private(path)
    try:
        return read(directory, name).decode().rstrip("\r\n")
    except ValueError:
        raise failure("FileTruncated", path + " is not UTF-8")


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True
