"""Topic names and filters: `~`, what is allowed in them (MQTT 3.1.1, section 4.7)."""

from ..log import quoted
from ..messages import has_half_pair
from ..platform import const

PREFIX = "devices/"
# MQTT counts the bytes of a text in two (section 1.5.3).
_LONGEST = const(65535)


def valid_id(client_id: object) -> bool:
    """Return True if `client_id` is 1 to 64 of A-Z a-z 0-9 _ -, so that it cannot escape its
    topics, and its first is no -, so that no command takes it for an option.
    """
    if not isinstance(client_id, str) or not 0 < len(client_id) <= 64 or client_id[:1] == "-":
        return False
    try:
        codes = client_id.encode()
    except UnicodeError:  # half a surrogate pair, as of a command line that is not UTF-8
        return False
    # By codes, since a board keeps each character that it ever had as a str.
    return all(97 <= c <= 122 or 65 <= c <= 90 or 48 <= c <= 57 or c in b"_-" for c in codes)


def valid_elsewhere(client_id: object) -> bool:
    """Return True if another's broker may know a device by this id: what MQTT can say, without
    control characters and without what would make more than one level of a topic of it.

    MQTT lets every broker take 1 to 23 letters and digits, and any broker more [MQTT-3.1.3-5, -6];
    a certificate's common name ends at 64 characters (RFC 5280, ub-common-name), but need not be
    the id there.
    """
    return isinstance(client_id, str) and "/" not in client_id and not problem(client_id, False)


def expand(topic: str, prefix: str) -> str:
    """Put this device's own prefix in place of a leading `~`: `~/led` becomes
    `devices/<client_id>/led`. In `$share/<group>/<filter>` it leads the filter.
    """
    if topic[:7] == "$share/" and topic.count("/") > 1:
        share, group, shared = topic.split("/", 2)
        return "/".join((share, group, expand(shared, prefix)))
    if topic == "~" or topic[:2] == "~/":
        return prefix + topic[1:]
    return topic


def problem(topic: str, is_filter: bool) -> str | None:
    """Say what is wrong with a topic name, or filter, in a few words; None if nothing is
    ([MQTT-1.5.3-1], [MQTT-4.7.1-1] to [MQTT-4.7.3-3]).
    """
    if not isinstance(topic, str) or not topic:
        return "it is empty or no string"
    # By codes, as in `valid_id`.
    content = topic.encode("utf-8", "surrogatepass")
    if has_half_pair(content):
        return "it holds half a surrogate pair, which UTF-8 cannot say"
    if len(content) > _LONGEST:
        return "it is longer than 65,535 bytes"
    # Brokers may close the connection for them (section 1.5.3), and Mosquitto does: a message that
    # can never arrive would keep all behind it from arriving.
    if any(
        code < 32 or code == 0x7F or (code == 0xC2 and content[at + 1] < 0xA0)
        for at, code in enumerate(content)
    ):
        return "it holds a control character"
    if any(code >= 0xEF and _is_noncharacter(content, at) for at, code in enumerate(content)):
        return "it holds what Unicode calls a noncharacter"
    if is_filter and (topic + "/")[:7] == "$share/":
        levels = topic.split("/", 2)
        group = levels[1] if len(levels) == 3 and levels[2] else ""
        if not group or "+" in group or "#" in group:
            return "of a shared subscription it is $share/<group>/<filter>"
    if "+" not in topic and "#" not in topic:
        return None
    if not is_filter:
        return "+ and # stand in filters only"
    levels = topic.split("/")
    for index, level in enumerate(levels):
        if level == "#" and index == len(levels) - 1:
            continue
        if "#" in level or ("+" in level and level != "+"):
            return "+ stands for a whole level, # for all the last ones"
    return None


def _is_noncharacter(content: bytes, at: int) -> bool:
    """Return True if U+FDD0 to U+FDEF, or one that ends in FFFE or FFFF, begins there in UTF-8."""
    if content[at] == 0xEF:
        second, third = content[at + 1], content[at + 2]
        return (second == 0xB7 and 0x90 <= third <= 0xAF) or (second == 0xBF and third >= 0xBE)
    return content[at + 1] & 15 == 15 and content[at + 2] == 0xBF and content[at + 3] >= 0xBE


def checked(topic: str, qos: int, prefix: str, is_filter: bool) -> str:
    """Return a topic name, or filter, with `~` put into words.

    Raise InvalidTopic, or UsageError for a QoS that MQTT does not know.
    """
    if isinstance(topic, str):
        topic = expand(topic, prefix)
    wrong = problem(topic, is_filter)
    if wrong:
        from ..errors import InvalidTopic

        kind = "filter" if is_filter else "name"
        raise InvalidTopic("{} is no topic {}: {}".format(quoted(topic), kind, wrong))
    if not isinstance(qos, int) or isinstance(qos, bool) or not 0 <= qos <= 2:
        from ..errors import UsageError

        raise UsageError("qos must be 0, 1 or 2, not " + quoted(qos))
    return topic


def covers(rule: str, asked: str) -> bool:
    """Return True if a rule, a topic filter, allows all that a topic name or filter can match.

    Of `$share/<group>/<filter>` the filter counts.
    """
    levels = asked.split("/")
    if levels[0] == "$share" and len(levels) > 2:
        levels = levels[2:]
    allowed = rule.split("/")
    if allowed[0] != levels[0] and levels[0][:1] == "$":  # [MQTT-4.7.2-1]
        return False
    for index, level in enumerate(allowed):
        if level == "#":
            return True
        if index >= len(levels) or levels[index] == "#" or level not in ("+", levels[index]):
            return False
    return len(allowed) == len(levels)
