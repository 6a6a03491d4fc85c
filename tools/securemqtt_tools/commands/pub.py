"""Publish messages, and wait until the broker has them.

`~` stands for the topics of the bundle's own id: '~/note' is devices/ID/note (quoted, or the shell
takes it for a directory). Without MESSAGE, each line of standard input is a message.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from securemqtt import Client, Delivery
from securemqtt.errors import OutboxFull
from securemqtt_tools import completion
from securemqtt_tools.cli import FatalError, whole_number
from securemqtt_tools.desk import IDENTITY, add_connection_options, connected

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
        deliveries = _publish(client, args, topic, payloads)
        client.flush(args.wait)
        missing = sum(not delivery.acknowledged for delivery in deliveries)
        if missing:
            reason = f": {client.last_error}" if client.last_error else ""
            were = "message was" if missing == 1 else "messages were"
            raise FatalError(f"{missing} {were} not acknowledged in {args.wait} s{reason}")
        if client.stats["outside"]:
            raise FatalError("the broker has dropped it, if its rules are what the bundle says")
    return 0


def _topic_and_payloads(args: argparse.Namespace) -> tuple[str, Iterable[str | bytes]]:
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


def _payloads(args: argparse.Namespace, texts: list[str]) -> Iterable[str | bytes]:
    others = args.file is not None, args.null, args.lines
    if len(texts) + sum(others) > 1:
        raise FatalError("one of MESSAGE, --message, --file, --null and --lines (see --help)")
    if texts:
        return texts
    if args.null:
        return [b""]
    if args.file is not None:
        return [_content(args.file)]
    if not args.lines and sys.stdin is not None and sys.stdin.isatty():
        raise FatalError("what is to be sent? MESSAGE, --file, --null, or lines from a pipe")
    return _lines(_standard_input())


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise FatalError("standard input is closed: give MESSAGE, --file or --null")
    return sys.stdin.buffer


def _content(path: Path) -> bytes:
    try:
        return _standard_input().read() if path == _STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        raise FatalError(f"cannot read {path}: {error.strerror}") from error


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    for line in stream:
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _publish(
    client: Client, args: argparse.Namespace, topic: str, payloads: Iterable[str | bytes]
) -> Iterable[Delivery]:
    """Publish all; return those that may not be acknowledged yet."""
    waiting: deque[Delivery] = deque()
    for payload in payloads:
        while True:
            while waiting and waiting[0].acknowledged:
                waiting.popleft()
            try:
                waiting.append(client.publish(topic, payload, args.qos, args.retain))
                break
            except OutboxFull:
                if not waiting[0].wait(args.wait):
                    return waiting
    return waiting
