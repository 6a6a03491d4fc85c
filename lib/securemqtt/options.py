"""`ClientOptions`: the options of a client, for type checkers and `help` on a computer.

Written from schema.py by tests/support/documents/options_page.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Literal, Protocol, TypedDict


class Feeder(Protocol):
    """A watchdog, such as machine.WDT."""

    def feed(self) -> object:
        """Have it wait again."""


class ClientOptions(TypedDict, total=False):
    """What `Client` takes beside the bundle; each may also be in the bundle's config.json.

    host: the broker, by a name or address that its certificate has; several, HOST or HOST:PORT, of
        which any will do: the next is tried where one fails (a str of 1 to 253 bytes without
        blanks, or a list of 1 to 16 of them; default none)
    preset: whose cloud the broker is in, or rabbitmq: what that does not take is refused here (aws,
        azure, hivemq-cloud, emqx or rabbitmq; default none)
    port: the broker's port (a whole number from 1 to 65535; default 8883)
    client_id: this device's id; at our own broker the common name of its certificate (1 to 64 of
        A-Z a-z 0-9 _ -, the first no -; where the bundle is not `provision`'s, 1 to 65535 bytes in
        UTF-8 without / + # and control characters; default none)
    prefix: what ~ stands for; without it, devices/ and client_id (a topic without + and #, its last
        character no /; default none)
    transport: wss: WebSockets (CPython only); none without TLS (tls or wss; default "tls")
    ws_path: the path of the WebSocket (a str of 1 to 1024 bytes without blanks; default "/mqtt")
    alpn: protocol names to offer in TLS (CPython only) (a str of 1 to 255 bytes in ASCII, or a list
        of them; default none)
    system_trust: trust the system's CAs as well (CPython only) (True or False; default False)
    ca: the trust anchors, one certificate per file (a str or a Path, or a list of them; default
        none)
    certificate: the device's certificate first, then intermediates (a str or a Path, or a list of
        them; default none)
    key: the device's private key, readable for its owner only (a str or a Path; default none)
    key_password: what opens an encrypted key (CPython only) (str, bytes, or a function that gives
        one of them; default none)
    username: the user: on top of the certificate, or with a password in its place (a str of at most
        65535 bytes in UTF-8, without NUL; default none)
    password: the user's password; needs username (a str of at most 65535 bytes in UTF-8, without
        NUL; default none)
    password_file: a file with the password, the owner's only (a str or a Path; default none)
    keep_alive_s: a peer is given up after 1.5 times so much silence (a whole number from 5 to 65535
        s; default 60)
    clean_session: have the broker forget the session at the end (True or False; default False)
    will: what the broker says when we vanish, in place of status ((topic, payload, qos=1,
        retain=False); default none)
    status: online and offline on ~/status, retained (True or False; default True)
    clock_floor: a clock that shows less is plainly wrong (a whole number from 0 to 68719476736 s
        since 1970; default 0)
    ntp_host: what a board whose clock is plainly wrong asks the time (a str of 1 to 253 bytes
        without blanks; default none)
    certificate_warning_days: how long before this device's certificate ends the client begins to
        say so (a whole number from 0 to 3650 days; default 30)
    window: how many of QoS 1 and 2 may be unacknowledged (a whole number from 1 to 1000 messages;
        default 20)
    max_packet_bytes: larger messages that come in are acknowledged, counted and thrown away (a
        whole number from 128 to 268435455 bytes; default 1048576; 16384 on a board)
    max_publish_bytes: the largest PUBLISH that the broker takes; beyond it, MessageTooLarge at
        publish (a whole number from 64 to 268435460 bytes; default none)
    may_publish: where the broker lets this device publish (a list of topic filters; default none)
    may_subscribe: to what it lets this device subscribe (a list of topic filters; default none)
    connect_timeout_s: the whole of an attempt: name, TCP, TLS, CONNACK (a number from 0.1 to 3600
        s; default 30)
    outbox: where messages wait: docs/outbox.md (ram or durable; default "ram")
    outbox_messages: how many may wait (a whole number from 1 to 1073741824 messages; default 10000;
        100 on a board)
    outbox_bytes: how much may wait (a whole number from 256 to 1099511627776 bytes; default
        16777216; 16384 on a board)
    outbox_full: what a full outbox does: refuse is OutboxFull at publish (refuse, drop_oldest or
        drop_newest; default "refuse")
    outbox_dir: the durable outbox; without it, outbox in the bundle. Relative to the bundle;
        without one, absolute (a str or a Path; default none)
    outbox_fsync: whether each message is synced, or all every outbox_interval_s (each or interval;
        default "each")
    outbox_interval_s: the interval of outbox_fsync (a number from 0.01 to 3600 s; default 1)
    outbox_journal_bytes: how large the journal may be; without it, 64 MiB, on a board 64 KiB:
        docs/outbox.md (a whole number from 32768 to 1099511627776 bytes; default none)
    early_s: how long what a kept session brings may wait for its subscription (a number from 0 to
        600 s; default 5)
    skip_redelivered: do not run a message again whose acknowledgement may have been lost (True or
        False; default True)
    watchdog: such as machine.WDT; fed only while the board gets on (an object with a method feed();
        default none)
    """

    host: str | Sequence[str]
    preset: Literal["aws", "azure", "hivemq-cloud", "emqx", "rabbitmq"] | None
    port: int
    client_id: str
    prefix: str | None
    transport: Literal["tls", "wss"]
    ws_path: str
    alpn: str | Sequence[str] | None
    system_trust: bool
    ca: str | PathLike[str] | Sequence[str | PathLike[str]]
    certificate: str | PathLike[str] | Sequence[str | PathLike[str]]
    key: str | PathLike[str] | None
    key_password: str | bytes | Callable[[], str | bytes] | None
    username: str | None
    password: str | None
    password_file: str | PathLike[str] | None
    keep_alive_s: int
    clean_session: bool
    will: tuple[str, object] | tuple[str, object, int] | tuple[str, object, int, bool] | None
    status: bool
    clock_floor: int
    ntp_host: str | None
    certificate_warning_days: int
    window: int
    max_packet_bytes: int
    max_publish_bytes: int | None
    may_publish: Sequence[str] | None
    may_subscribe: Sequence[str] | None
    connect_timeout_s: float
    outbox: Literal["ram", "durable"]
    outbox_messages: int
    outbox_bytes: int
    outbox_full: Literal["refuse", "drop_oldest", "drop_newest"]
    outbox_dir: str | PathLike[str] | None
    outbox_fsync: Literal["each", "interval"]
    outbox_interval_s: float
    outbox_journal_bytes: int | None
    early_s: float
    skip_redelivered: bool
    watchdog: Feeder | None
