"""`Settings`: what a client was told."""

from .platform import const

TYPE_CHECKING = const(False)

# No device was provisioned before 2025: a clock that shows less is wrong, whatever the bundle's
# clock_floor.
EARLIEST_S = const(1735689600)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .limits import Limits


class Settings:
    """What a client was told, checked, each under its name; its meaning is in docs/options.md.

    Made by config.load, and never changed but for which of several brokers is tried. It is a file
    of its own, since an object keeps the file of its class in a board's memory: what finds and
    checks the options goes again.
    """

    limits: "Limits | None"  # the preset's
    path: str  # the bundle's directory, "" without one
    host: str  # the one that is tried, or connected
    hosts: "list[tuple[str, int]]"  # where there are several, in the order of their turns
    hosts_tried: int  # of those, since the last connection
    preset: "str | None"
    port: int
    client_id: str
    prefix: str  # what ~ stands for
    transport: str  # "tls" or "wss"
    ws_path: str
    alpn: "str | list[str] | None"
    system_trust: bool
    ca: "str | list[str]"
    certificate: "str | list[str]"
    key: "str | None"
    key_password: "str | bytes | Callable[[], str | bytes] | None"
    username: "str | None"
    password: "str | None"
    password_file: "str | None"
    keep_alive_s: int
    clean_session: bool
    will: "tuple[str, bytes, int, bool] | None"
    status: bool
    clock_floor: int  # seconds since 1970
    ntp_host: "str | None"
    certificate_warning_days: int
    window: int
    max_packet_bytes: int
    max_publish_bytes: "int | None"
    may_publish: "list[str] | None"  # topic filters
    may_subscribe: "list[str] | None"
    connect_timeout_s: float
    outbox: str  # "ram" or "durable"
    outbox_messages: int
    outbox_bytes: int
    outbox_full: str  # "refuse", "drop_oldest" or "drop_newest"
    outbox_dir: "str | None"
    outbox_fsync: str  # "each" or "interval"
    outbox_interval_s: float
    outbox_journal_bytes: "int | None"
    early_s: float
    skip_redelivered: bool
    watchdog: "Any"  # an object with feed()

    def __init__(self, values: "dict[str, Any]") -> None:
        for name in values:
            setattr(self, name, values[name])

    def turn_to_next(self) -> bool:
        """Have the next of several brokers tried after this one; return True if it is one that was
        not tried since the last connection, or since all of them were.
        """
        if not self.hosts:
            return False
        from . import hosts

        return hosts.turn_to_next(self)

    @property
    def address(self) -> str:
        """The broker, as it is called in a message to people: host:port."""
        return "{}:{}".format(self.host, self.port)
