"""What a program gives to the client's methods: checked at once, by type and range."""

from .log import quoted
from .platform import const, is_plain, temporary

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from .settings import Settings

# What a PUBLISH has at most beside topic and payload: fixed header, length of the topic, packet id.
_HEAD_BYTES = const(9)
# Nobody waits for 31 years; and any clock here can count so far.
_LONGEST_S = const(1_000_000_000)


def milliseconds(seconds: float, name: str) -> int:
    """Return a duration that a program gave, in ms; 0 for one below 0: it has passed already.

    Raise UsageError for what is no number of seconds, NaN and infinity among them.
    """
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not -_LONGEST_S <= seconds <= _LONGEST_S:  # NaN is in no range
        from .errors import UsageError

        what = "{} must be a number of seconds up to {}, not {}"
        raise UsageError(what.format(name, _LONGEST_S, quoted(seconds)))
    return int(seconds * 1000) if seconds > 0 else 0


def full_topic(settings: "Settings", topic: str, qos: int, retain: bool) -> str:
    """Return a topic name with `~` put into words. Raise InvalidTopic, UsageError, also for a
    `retain` that is no flag.
    """
    full = ""
    if isinstance(topic, str) and type(qos) is int and 0 <= qos <= 2:
        full = topic
        if topic == "~" or topic[:2] == "~/":
            full = settings.prefix + topic[1:]
        if not 0 < len(full) < 16384 or "+" in full or "#" in full or not is_plain(full):
            full = ""
    check_flag("retain", retain)
    if not full:
        return checked_topic(settings, topic, qos, False, retain)
    if settings.limits is not None:
        settings.limits.check(full, qos, retain, False)
    return full


def checked_topic(
    settings: "Settings", topic: str, qos: int, is_filter: bool, retain: bool = False
) -> str:
    """Return a topic with `~` put into words. Raise InvalidTopic, UsageError."""
    with temporary():
        from .protocol.topics import checked

        full = checked(topic, qos, settings.prefix, is_filter)
    if settings.limits is not None:
        settings.limits.check(full, qos, retain, is_filter)
    return full


def check_function(name: str, value: object, optional: bool) -> None:
    """Raise UsageError for what cannot be called; None may be where that is `optional`."""
    if not callable(value) and (value is not None or not optional):
        from .errors import UsageError

        allowed = "a function or None" if optional else "a function"
        raise UsageError("{} must be {}, not {}".format(name, allowed, quoted(value)))


def check_flag(name: str, value: object) -> None:
    """Raise UsageError for what is neither True nor False."""
    if value is not True and value is not False:
        from .errors import UsageError

        raise UsageError("{} must be True or False, not {}".format(name, quoted(value)))


def fits(topic: str, payload: bytes, limit_bytes: int) -> bool:
    """Return True if a message fits into a packet of so many bytes."""
    size = len(payload) + _HEAD_BYTES
    # A character of the topic takes four bytes at most.
    return size + len(topic) * 4 <= limit_bytes or size + len(topic.encode()) <= limit_bytes
