"""Several brokers of which any will do, the nodes of a cluster: in which order they are tried.

Loaded where `host` is a list, and only for the moment.
"""

from .log import quoted
from .platform import const, random_between

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any, Protocol

    class Turning(Protocol):
        """Settings, as far as they are changed here."""

        host: str
        port: int
        hosts: list[tuple[str, int]]
        hosts_tried: int


# What a fleet may have to try before it waits.
_MOST = const(16)


def parsed(names: "Any", port: "Any") -> "list[tuple[Any, Any]]":
    """Return the brokers of a list, each HOST or HOST:PORT (an IPv6 address with a port in
    brackets), in an order drawn at random: else all of a fleet would come to the first.

    What a host or a port may be is looked at by the caller. Raise UsageError.
    """
    if not 0 < len(names) <= _MOST:
        raise _usage_error("host must be a list of 1 to {}, not of {}".format(_MOST, len(names)))
    found = [_split(name, port) for name in names]
    for last in range(len(found) - 1, 0, -1):
        other = random_between(0, last)
        found[last], found[other] = found[other], found[last]
    return found


def _split(name: "Any", port: "Any") -> "tuple[Any, Any]":
    if not isinstance(name, str):
        return name, port
    host, colon, number = name.rpartition(":")
    if not colon or (":" in host and host[-1:] != "]"):  # without a port, or an address of IPv6
        host = name
    else:
        # Of bytes, since a str may have digits of other scripts; and a long one int() refuses.
        is_number = len(number) <= 5 and number.encode("utf-8", "surrogatepass").isdigit()
        port = int(number) if is_number else number
    if host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
    if "[" in host or "]" in host:
        what = "host must be HOST, HOST:PORT or [ADDRESS]:PORT, not "
        raise _usage_error(what + quoted(name))
    return host, port


def turn_to_next(settings: "Turning") -> bool:
    """Have the next broker tried after this one; return True if it is one that was not tried since
    the last connection, or since all of them were.
    """
    hosts = settings.hosts
    hosts.append(hosts.pop(0))
    settings.host, settings.port = hosts[0]
    settings.hosts_tried = (settings.hosts_tried + 1) % len(hosts)
    return settings.hosts_tried != 0


def _usage_error(what: str) -> Exception:
    from .errors import UsageError

    return UsageError(what)
