"""The options of a client: found, checked, and put together as `Settings`.

They come from the bundle's config.json and from the arguments of `Client`, which win. Their meaning
is in docs/ARCHITECTURE.md, "Options". A board loads this module when a client is made, and forgets
it again.
"""

from . import bundle
from .platform import MAX_PACKET_BYTES, OUTBOX_BYTES, OUTBOX_MESSAGES, const
from .protocol.topics import expand, problem, valid_id
from .settings import Settings

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

    from .errors import UsageError

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


def load(path: "str | None", options: "dict[str, Any]") -> Settings:
    """Read the bundle's config.json, put `options` over it, check what needs no network.

    Raise BundleNotFound, UsageError, or what is wrong with config.json.
    """
    for name in options:
        if name not in _DEFAULTS:
            raise _usage_error("Client has no option " + name)
    values: "dict[str, Any]" = dict(_DEFAULTS)
    directory = ""
    if path is not None or not options.get("host"):
        directory = bundle.find(path)
        values.update(bundle.read_json(directory, "config.json"))
    values.update(options)
    values["path"] = directory
    _check(values)
    _prepare_will(values)
    if values["password_file"] and values["password"] is None:
        values["password"] = bundle.read_password(directory, values["password_file"])
    known = {name: values[name] for name in _DEFAULTS}
    known["path"] = directory
    return Settings(known)


def _check(values: "dict[str, Any]") -> None:
    if not valid_id(values["client_id"]):
        raise _usage_error(
            "client_id must be 1 to 64 of A-Z a-z 0-9 _ -, not " + repr(values["client_id"]),
        )
    if not values["host"]:
        raise _usage_error("the broker's host is not set")
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
        value = values[name]
        if not isinstance(value, str) and (value is not None or name == "host"):
            raise _usage_error("{} must be a str, not {!r}".format(name, value))
    for name in ("ca", "certificate"):
        value = values[name]
        if (
            value
            and not isinstance(value, str)
            and not (
                isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
            )
        ):
            raise _usage_error("{} must be a list of names of files, not {!r}".format(name, value))
    for name in ("clean_session", "status", "system_trust"):
        if values[name] not in (True, False):
            raise _usage_error("{} must be True or False, not {!r}".format(name, values[name]))
    for name, low, high in _RANGES:
        value = values[name]
        if value is None and name == "outbox_journal_bytes":
            continue
        if (
            not isinstance(
                value, (int, float) if name in ("connect_timeout_s", "outbox_interval_s") else int
            )
            or not low <= value <= high
        ):
            raise _usage_error(
                "{} must be a whole number from {} to {}, not {!r}".format(name, low, high, value),
            )
    if values["outbox_full"] not in ("refuse", "drop_oldest", "drop_newest"):
        raise _usage_error("outbox_full must be refuse, drop_oldest or drop_newest")
    if values["outbox"] not in ("ram", "durable"):
        raise _usage_error("outbox must be ram or durable")
    if values["outbox_fsync"] not in ("each", "interval"):
        raise _usage_error("outbox_fsync must be each or interval")
    if values["outbox"] == "durable" and not (values["outbox_dir"] or values["path"]):
        raise _usage_error(
            "a durable outbox without a bundle needs outbox_dir, the directory to keep it in",
        )
    if values["transport"] not in ("tls", "wss"):
        raise _usage_error("transport must be tls or wss: there is none without TLS")


def _prepare_will(values: "dict[str, Any]") -> None:
    """Settle the will: the user's own (topic, payload, qos=1, retain=False), or `offline` on
    ~/status, retained.
    """
    will = values["will"]
    client_id = values["client_id"]
    if not will:
        if values["status"]:
            values["will"] = (expand("~/status", client_id), b"offline", 1, True)
        return
    if not isinstance(will, (list, tuple)) or not 2 <= len(will) <= 4:
        raise _usage_error("will must be (topic, payload, qos, retain), not {!r}".format(will))
    topic, payload, qos, retain = tuple(will) + (1, False)[len(will) - 2 :]
    if isinstance(topic, str):
        topic = expand(topic, client_id)
    wrong = problem(topic, False)
    if wrong:
        from .errors import InvalidTopic

        raise InvalidTopic("the will's topic {!r}: {}".format(topic, wrong))
    if qos not in (0, 1, 2):
        raise _usage_error("the will's qos must be 0, 1 or 2, not {!r}".format(qos))
    from .payload import encode

    content = encode(payload)
    if len(content) > 65535:
        from .errors import InvalidPayload

        raise InvalidPayload("the will's payload is longer than 65,535 bytes", len(content))
    values["will"] = (topic, content, qos, retain)
    values["status"] = False  # there is one will only, and a birth without its will would lie


def _usage_error(what: str) -> "UsageError":
    from .errors import UsageError

    return UsageError(what)
