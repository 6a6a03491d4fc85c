"""Publish messages, and wait until the broker has them.

`~` stands for the topics of the bundle's own id: '~/note' is devices/ID/note (quoted, or the shell
takes it for a directory). Without MESSAGE, each line of standard input is a message.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from securemqtt import Client, Delivery
from securemqtt.arguments import full_topic
from securemqtt.errors import OutboxFull, SecureMQTTError
from securemqtt_tools import completion
from securemqtt_tools.cli import FatalError, whole_number
from securemqtt_tools.desk import IDENTITY, DeskClient, add_connection_options, connected, home_hint
from securemqtt_tools.output import is_terminal
from securemqtt_tools.streams import Lines, read_whole

_EXAMPLES = """\
Examples:
  securemqtt pub '~/note' hello
  securemqtt pub devices/greenhouse-1/command/interval 5 --as hub
  securemqtt pub '~/config' --file config.json --retain
  securemqtt pub '~/config' --null --retain             take a retained message back
  tail -f sensor.log | securemqtt pub '~/log'           each line is a message
Exit status: 0 once the broker has all of them; 1 if not; 130 after Ctrl-C or SIGTERM.
"""
_STANDARD_INPUT = Path("-")
# What MQTT has room for in a packet (section 2.2.3).
_PACKET_BYTES = 268_435_455

# What is to be sent, once it is known how long a message may be, and why not longer.
_Payloads = Callable[[int, str], Iterable[bytes]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EXAMPLES + IDENTITY
    topic = parser.add_argument(
        "topic",
        nargs="?",
        metavar="TOPIC",
        help="where to; ~ is devices/ID, or the prefix of the bundle",
    )
    parser.add_argument(
        "message", nargs="?", metavar="MESSAGE", help="what to say (default: lines from a pipe)"
    )
    option = parser.add_argument(
        "-t", "--topic", dest="topic_option", metavar="TOPIC", help="the same as TOPIC"
    )
    for argument in (topic, option):
        completion.completed(argument, completion.topics)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-m", "--message", dest="text", metavar="TEXT", help="the same as MESSAGE")
    what.add_argument(
        "-f", "--file", type=Path, metavar="FILE", help="the content of FILE (-: standard input)"
    )
    what.add_argument(
        "-s",
        "--stdin-file",
        dest="file",
        action="store_const",
        const=_STANDARD_INPUT,
        help="the same as --file -",
    )
    what.add_argument("-n", "--null", action="store_true", help="an empty message")
    what.add_argument(
        "-l",
        "--lines",
        action="store_true",
        help="each line of standard input is a message, as it comes",
    )
    parser.add_argument(
        "-r", "--retain", action="store_true", help="the broker keeps it for who comes later"
    )
    parser.add_argument(
        "--wait",
        type=whole_number(0, 86400, "s"),
        default=30,
        metavar="S",
        help="how long to wait for the broker's acknowledgements (default 30)",
    )
    add_connection_options(parser)


def run(args: argparse.Namespace) -> int:
    """Publish; return 0 once the broker has all of it. Raise FatalError."""
    topic, payloads = _topic_and_payloads(args)
    with connected(args) as client:
        full_topic(client.settings, topic, args.qos, args.retain)  # not only with the first line
        found = payloads(*_longest(client))
        sender = _Sender(client, args)
        reasons: list[str] = []
        failure: Exception | None = None
        try:
            sender.publish(topic, found)
        except (FatalError, SecureMQTTError) as error:
            failure = error
            if isinstance(found, Lines):
                reasons.append(_unsent(found.count_left()))
        if not sender.stuck:
            client.flush(args.wait)
        told = sender.complaints()
        # An outbox that is full of our own is told by what waits there.
        if failure is not None and not (sender.stuck and told):
            reasons.insert(0, str(failure))
        reasons += told
        if reasons:
            raise FatalError("; ".join(reasons))
        if client.stats["outside"]:
            raise FatalError(
                "by the rules in its bundle this id may not publish there, so the broker has "
                "dropped it, unless they have changed since (securemqtt broker allow, or grant): "
                "provision it again, and the bundle knows them" + home_hint([topic])
            )
    return 0


class _Sender:
    """Publishes, and knows what the broker has not acknowledged."""

    def __init__(self, client: Client, args: argparse.Namespace) -> None:
        self.stuck = False  # whether the outbox was full for too long
        self._client = client
        self._args = args
        self._waiting: deque[Delivery] = deque()
        self._refused: list[Delivery] = []  # parked, or given up

    def publish(self, topic: str, payloads: Iterable[bytes]) -> None:
        """Publish all. Raise SecureMQTTError for what cannot be, OutboxFull where there has been
        no room for `--wait` seconds.
        """
        args = self._args
        for payload in payloads:
            while True:
                self._look()
                try:
                    self._waiting.append(
                        self._client.publish(topic, payload, args.qos, args.retain)
                    )
                    break
                except OutboxFull:
                    if not self._made_room():
                        self.stuck = True
                        raise

    def complaints(self) -> list[str]:
        """Return what is to be said of what is not acknowledged: nothing if all is."""
        missing = [one for one in (*self._refused, *self._waiting) if not one.acknowledged]
        if not missing:
            return []
        were = "1 message was" if len(missing) == 1 else f"{len(missing)} messages were"
        if all(one.parked for one in missing):
            return [f"{were} not acknowledged: {missing[0].error}"]
        reason = f": {self._client.last_error}" if self._client.last_error else ""
        return [f"{were} not acknowledged in {self._args.wait} s{reason}"]

    def _look(self) -> None:
        """Let go of what is acknowledged; put aside what others need not wait for."""
        while self._waiting and _is_decided(self._waiting[0]):
            delivery = self._waiting.popleft()
            if not delivery.acknowledged:
                self._refused.append(delivery)

    def _made_room(self) -> bool:
        """Wait until the outbox may have room again; return False if it has none in time."""
        self._look()
        if self._waiting:
            self._waiting[0].wait(self._args.wait)
            return _is_decided(self._waiting[0])
        before = self._client.pending  # a durable outbox holds what an earlier program has left
        self._client.flush(self._args.wait)
        return self._client.pending < before


def _is_decided(delivery: Delivery) -> bool:
    return delivery.acknowledged or delivery.dropped or delivery.parked


def _longest(client: DeskClient) -> tuple[int, str]:
    """Return how many bytes a message may have at most, as far as is known here, and why no more:
    what completes "is longer than N bytes".
    """
    settings = client.settings
    packet = settings.max_publish_bytes
    limits = [
        (_PACKET_BYTES, "which is MQTT's own limit"),
        (settings.outbox_bytes, "which is what this bundle's outbox_bytes allows"),
    ]
    if packet is not None:
        limits.append((packet, "which is the broker's limit, as the bundle has it"))
    return min(limits)


def _unsent(left: int | None) -> str:
    """Return what is to be said of the lines that were not sent: that which was to be sent last,
    and so many that are left; None: nobody knows how many.
    """
    if left is None:
        return "the rest of standard input was not sent"
    lines = "1 line" if left == 0 else f"{left + 1} lines"
    return f"{lines} of standard input {'was' if left == 0 else 'were'} not sent"


def _topic_and_payloads(args: argparse.Namespace) -> tuple[str, _Payloads]:
    """Return what is to be published where; a first argument is the message if -t has the topic."""
    texts = [text for text in (args.topic, args.message) if text is not None]
    topic = args.topic_option
    if topic is None:
        if not texts:
            raise FatalError("which topic? (see securemqtt pub --help)")
        topic = texts.pop(0)
    if args.text is not None:
        texts.append(args.text)
    return topic, _payloads(args, texts)


def _payloads(args: argparse.Namespace, texts: list[str]) -> _Payloads:
    others = args.file is not None, args.null, args.lines
    if len(texts) + sum(others) > 1:
        raise FatalError("one of MESSAGE, --message, --file, --null and --lines (see --help)")
    if texts or args.null:
        messages = [_checked(text) for text in texts] or [b""]
        return lambda *_: messages
    if args.file is not None:
        name = "standard input" if args.file == _STANDARD_INPUT else str(args.file)
        stream = _opened(args.file)
        return lambda longest, why: [read_whole(name, stream, longest, why)]
    if not args.lines and is_terminal(sys.stdin):
        raise FatalError("what is to be sent? MESSAGE, --file, --null, or lines from a pipe")
    return partial(Lines, _standard_input())


def _checked(text: str) -> bytes:
    """Return a message as UTF-8. Raise FatalError for what the shell gave that is none."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise FatalError(
            "MESSAGE is not UTF-8: send bytes from a pipe with --file -, or with --file FILE"
        ) from error


def _standard_input() -> BufferedIOBase:
    if sys.stdin is None:
        raise FatalError("standard input is closed: give MESSAGE, --file or --null")
    return cast("BufferedIOBase", sys.stdin.buffer)


def _opened(path: Path) -> BufferedIOBase:
    """Open a file, for as long as this process lives. Raise FatalError."""
    if path == _STANDARD_INPUT:
        return _standard_input()
    try:
        return path.open("rb")
    except OSError as error:
        raise FatalError(f"cannot read {path}: {error.strerror}") from error
