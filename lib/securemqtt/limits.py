"""`Limits`: what a provider's broker takes of topics and QoS, where a preset names one.

It is a file of its own, since an object keeps the file of its class in a board's memory: the table
that it is made from (presets.py) goes again.
"""

from .log import quoted
from .platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

_CAUSE = "a rule of this broker's: it would hang up, never answer, or do less"
_REMEDY = "docs/own-broker.md lists what each provider takes"


class Limits:
    """What a program may hand to a client with a preset; made by presets.py, and never changed."""

    def __init__(self, title: str, preset: "dict[str, Any]") -> None:
        self.title = title
        self.highest_qos: int = preset.get("highest_qos", 2)
        self.retained: bool = preset.get("retained", True)
        self.topic_bytes: int = preset.get("topic_bytes", 65535)
        self.levels: int = preset.get("levels", 65536)
        self.filter_levels: int = preset.get("filter_levels", 65536)
        self.reserved: str = preset.get("reserved", "")
        self.own: str = preset.get("own", "")

    def check(self, topic: str, qos: int, retain: bool, is_filter: bool) -> None:
        """Raise UsageError or InvalidTopic, with the provider's name, for what its broker does not
        take: it would end the connection, or never answer.
        """
        if qos > self.highest_qos:
            self._refuse("takes QoS 0 to {} only, not {}".format(self.highest_qos, qos))
        if retain and not self.retained:
            self._refuse("takes no retained messages: retain=False, status=False")
        counted = topic
        if is_filter and topic[:7] == "$share/" and topic.count("/") > 1:
            counted = topic.split("/", 2)[2]
        if self.reserved and counted.startswith(self.reserved):
            if not counted.startswith(self.own):
                self._refuse_topic(
                    "keeps what begins with {} to itself".format(self.reserved), topic
                )
            if counted.startswith(self.own + "rules/") and counted.count("/") > 2:
                counted = counted.split("/", 3)[3]  # what comes before it does not count
        levels = self.filter_levels if is_filter else self.levels
        if counted.count("/") >= levels:
            self._refuse_topic("takes topics of at most {} levels".format(levels), topic)
        if len(counted) * 4 > self.topic_bytes and len(counted.encode()) > self.topic_bytes:
            self._refuse_topic("takes topics of at most {} bytes".format(self.topic_bytes), topic)

    def _refuse(self, what: str) -> None:
        from .errors import UsageError

        raise UsageError(self.title + " " + what, cause=_CAUSE, remedy=_REMEDY)

    def _refuse_topic(self, what: str, topic: str) -> None:
        from .errors import InvalidTopic

        raise InvalidTopic(
            "{} {}, not {}".format(self.title, what, quoted(topic)), cause=_CAUSE, remedy=_REMEDY
        )
