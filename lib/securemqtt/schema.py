"""The options of a client: name, kind, default, range, unit and purpose of each, in one place.

config.py checks by it; options.py, with the class `ClientOptions`, and docs/options.md are written
from it by tests/support/documents/options_page.py. A board loads it when a client is made, and
forgets it again.
"""

from .platform import MAX_PACKET_BYTES, OUTBOX_BYTES, OUTBOX_MESSAGES, const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

    Option = tuple[str, str, Any, Any, str, str]

# Name, kind, default, what is allowed, unit, what it is for. Where the default is None, None is
# allowed. `allowed` is the lowest and the highest number, the shortest and the longest text in
# bytes of UTF-8, or the values there are to choose from.
OPTIONS: "tuple[Option, ...]" = (
    (
        "host",
        "hosts",
        "",
        (1, 253),
        "",
        "the broker, by a name or address that its certificate has; several, HOST or HOST:PORT, of"
        " which any will do: the next is tried where one fails",
    ),
    (
        "preset",
        "choice",
        None,
        ("aws", "azure", "hivemq-cloud", "emqx", "rabbitmq"),
        "",
        "whose cloud the broker is in, or rabbitmq: what that does not take is refused here",
    ),
    ("port", "whole", 8883, (1, 65535), "", "the broker's port"),
    (
        "client_id",
        "id",
        "",
        None,
        "",
        "this device's id; at our own broker the common name of its certificate",
    ),
    ("prefix", "topic", None, None, "", "what ~ stands for; without it, devices/ and client_id"),
    (
        "transport",
        "choice",
        "tls",
        ("tls", "wss"),
        "",
        "wss: WebSockets (CPython only); none without TLS",
    ),
    ("ws_path", "name", "/mqtt", (1, 1024), "", "the path of the WebSocket"),
    ("alpn", "protocols", None, (1, 255), "", "protocol names to offer in TLS (CPython only)"),
    ("system_trust", "flag", False, None, "", "trust the system's CAs as well (CPython only)"),
    ("ca", "paths", (), None, "", "the trust anchors, one certificate per file"),
    ("certificate", "paths", (), None, "", "the device's certificate first, then intermediates"),
    ("key", "path", None, None, "", "the device's private key, readable for its owner only"),
    ("key_password", "opener", None, None, "", "what opens an encrypted key (CPython only)"),
    (
        "username",
        "text",
        None,
        (0, 65535),
        "",
        "the user: on top of the certificate, or with a password in its place",
    ),
    ("password", "secret", None, (0, 65535), "", "the user's password; needs username"),
    ("password_file", "path", None, None, "", "a file with the password, the owner's only"),
    (
        "keep_alive_s",
        "whole",
        60,
        (5, 65535),
        "s",
        "a peer is given up after 1.5 times so much silence",
    ),
    ("clean_session", "flag", False, None, "", "have the broker forget the session at the end"),
    (
        "will",
        "will",
        None,
        None,
        "",
        "what the broker says when we vanish, in place of status",
    ),
    ("status", "flag", True, None, "", "online and offline on ~/status, retained"),
    (
        "clock_floor",
        "whole",
        0,
        (0, 1 << 36),
        "s since 1970",
        "a clock that shows less is plainly wrong",
    ),
    (
        "ntp_host",
        "name",
        None,
        (1, 253),
        "",
        "what a board whose clock is plainly wrong asks the time",
    ),
    (
        "certificate_warning_days",
        "whole",
        30,
        (0, 3650),
        "days",
        "how long before this device's certificate ends the client begins to say so",
    ),
    ("window", "whole", 20, (1, 1000), "messages", "how many of QoS 1 and 2 may be unacknowledged"),
    (
        "max_packet_bytes",
        "whole",
        MAX_PACKET_BYTES,
        (128, 268435455),
        "bytes",
        "larger messages that come in are acknowledged, counted and thrown away",
    ),
    (
        "max_publish_bytes",
        "whole",
        None,
        (64, 268435460),
        "bytes",
        "the largest PUBLISH that the broker takes; beyond it, MessageTooLarge at publish",
    ),
    ("may_publish", "filters", None, (1, 65535), "", "where the broker lets this device publish"),
    ("may_subscribe", "filters", None, (1, 65535), "", "to what it lets this device subscribe"),
    (
        "connect_timeout_s",
        "seconds",
        30,
        (0.1, 3600),
        "s",
        "the whole of an attempt: name, TCP, TLS, CONNACK",
    ),
    ("outbox", "choice", "ram", ("ram", "durable"), "", "where messages wait: docs/outbox.md"),
    ("outbox_messages", "whole", OUTBOX_MESSAGES, (1, 1 << 30), "messages", "how many may wait"),
    ("outbox_bytes", "whole", OUTBOX_BYTES, (256, 1 << 40), "bytes", "how much may wait"),
    (
        "outbox_full",
        "choice",
        "refuse",
        ("refuse", "drop_oldest", "drop_newest"),
        "",
        "what a full outbox does: refuse is OutboxFull at publish",
    ),
    (
        "outbox_dir",
        "path",
        None,
        None,
        "",
        "the durable outbox; without it, outbox in the bundle. Relative to the bundle; without one,"
        " absolute",
    ),
    (
        "outbox_fsync",
        "choice",
        "each",
        ("each", "interval"),
        "",
        "whether each message is synced, or all every outbox_interval_s",
    ),
    ("outbox_interval_s", "seconds", 1, (0.01, 3600), "s", "the interval of outbox_fsync"),
    (
        "outbox_journal_bytes",
        "whole",
        None,
        (32768, 1 << 40),
        "bytes",
        "how large the journal may be; without it, 64 MiB, on a board 64 KiB: docs/outbox.md",
    ),
    (
        "early_s",
        "seconds",
        5,
        (0, 600),
        "s",
        "how long what a kept session brings may wait for its subscription",
    ),
    (
        "skip_redelivered",
        "flag",
        True,
        None,
        "",
        "do not run a message again whose acknowledgement may have been lost",
    ),
    ("watchdog", "feeder", None, None, "", "such as machine.WDT; fed only while the board gets on"),
)


def in_words(kind: str, allowed: "Any", unit: str) -> str:
    """Return what an option of this kind may be, with its range and unit."""
    if kind == "whole" or kind == "seconds":
        number = "a whole number" if kind == "whole" else "a number"
        words = "{} from {} to {}".format(number, allowed[0], allowed[1])
        return words + " " + unit if unit else words
    if kind == "choice":
        return "{} or {}".format(", ".join(allowed[:-1]), allowed[-1])
    if kind == "hosts":
        return in_words("name", allowed, unit) + ", or a list of 1 to 16 of them"
    if kind == "name":
        return "a str of {} to {} bytes without blanks".format(allowed[0], allowed[1])
    if kind == "text" or kind == "secret":
        return "a str of at most {} bytes in UTF-8, without NUL".format(allowed[1])
    return _WORDS[kind]


_WORDS = {
    "id": "1 to 64 of A-Z a-z 0-9 _ -, the first no -; where the bundle is not `provision`'s,"
    " 1 to 65535 bytes in UTF-8 without / + # and control characters",
    "topic": "a topic without + and #, its last character no /",
    "flag": "True or False",
    "path": "a str or a Path",
    "paths": "a str or a Path, or a list of them",
    "protocols": "a str of 1 to 255 bytes in ASCII, or a list of them",
    "filters": "a list of topic filters",
    "opener": "str, bytes, or a function that gives one of them",
    "will": "(topic, payload, qos=1, retain=False)",
    "feeder": "an object with a method feed()",
}
