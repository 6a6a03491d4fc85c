"""Show messages as they come.

A FILTER is a topic, in which + stands for one level and # for all that follow; `~` stands for the
topics of the bundle's own id. Quote it, or the shell takes some of that for its own. What others
wrote is escaped, so that nothing in it moves the terminal; --raw gives the bytes as they are.
"""

from __future__ import annotations

import argparse
import sys
import time

from securemqtt import Message
from securemqtt.arguments import checked_topic
from securemqtt.errors import SecureMQTTError, SubscriptionRefused
from securemqtt.protocol.topics import covers
from securemqtt_tools import completion
from securemqtt_tools.cli import FatalError, warn, whole_number
from securemqtt_tools.desk import IDENTITY, DeskClient, add_connection_options, connected, home_hint
from securemqtt_tools.output import OutputError, is_terminal, reader_has_gone
from securemqtt_tools.printing import Printer

_EXAMPLES = """\
Examples:
  securemqtt sub 'devices/+/reading' --json --timestamps
  securemqtt sub '~/command/#' --as me
  securemqtt sub 'devices/greenhouse-1/#' --count 1 --wait 60   the next one, within a minute
  securemqtt sub 'devices/+/status' --retained-only             who is online?
  securemqtt sub 'devices/+/picture' --raw --count 1 > picture.jpg
Exit status: 0, also when Ctrl-C or SIGTERM ends it, or whoever reads the output has gone; 1 for a
fault; 27, as of mosquitto_sub, if the time of --wait is over.
"""
_TIMED_OUT = 27
_TURN_S = 0.1
# So long nothing retained may come until there is taken to be no more of it.
_RETAINED_S = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EXAMPLES + IDENTITY
    what = parser.add_argument("filters", nargs="*", metavar="FILTER", help="what to listen to")
    option = parser.add_argument(
        "-t",
        "--topic",
        action="append",
        default=[],
        dest="more_filters",
        metavar="FILTER",
        help="the same as FILTER; may be repeated",
    )
    left_out = parser.add_argument(
        "-T",
        "--filter-out",
        action="append",
        default=[],
        metavar="FILTER",
        help="show nothing whose topic matches this; may be repeated",
    )
    for argument in (what, option, left_out):
        completion.completed(argument, completion.filters)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="each message as a line of JSON")
    shown.add_argument(
        "--raw", action="store_true", help="payloads as they are, and nothing between them"
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action=argparse.BooleanOptionalAction,
        default=is_terminal(sys.stdout),
        help="the topic before each payload (default on a terminal)",
    )
    parser.add_argument("--timestamps", action="store_true", help="the time before each message")
    retained = parser.add_mutually_exclusive_group()
    retained.add_argument(
        "-R", "--no-retained", action="store_true", help="nothing that the broker has kept"
    )
    retained.add_argument(
        "--retained-only", action="store_true", help="only what the broker has kept, then end"
    )
    parser.add_argument(
        "-C",
        "--count",
        type=whole_number(1, 10**9),
        metavar="N",
        help="end after so many messages",
    )
    parser.add_argument(
        "-W", "--wait", type=whole_number(1, 10**9, "s"), metavar="S", help="end after S seconds"
    )
    add_connection_options(parser)


def run(args: argparse.Namespace) -> int:
    """Listen until Ctrl-C, or as long as was asked for; return the exit status. Raise
    FatalError.
    """
    if sys.stdout is None:
        raise FatalError("standard output is closed: there is nowhere to show messages")
    if not args.filters + args.more_filters:
        raise FatalError("which FILTER? (see securemqtt sub --help)")
    listener = _Listener(args)
    if args.timeout is not None and args.wait is None and not args.retained_only:
        warn(
            f"--timeout is for the connection alone, so this listens without end: for "
            f"{args.timeout} s at most, add --wait {args.timeout}"
        )
    with connected(args) as client:
        try:
            return listener.listen(client)
        except KeyboardInterrupt:
            return 0


class _Listener:
    """Shows what comes, until there is a reason to end."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        form = "json" if args.json else "raw" if args.raw else None
        self._printer = Printer(form, args.verbose, args.timestamps)
        self._filters: list[str] = args.filters + args.more_filters
        self._left_out: list[str] = []
        self._left: int | None = args.count
        self._last_s = 0.0
        self._errors: list[Exception] = []
        self._unwritten: OutputError | None = None

    def listen(self, client: DeskClient) -> int:
        """Listen until it is time to end; return the exit status. Raise FatalError."""
        args = self._args
        self._left_out = [checked_topic(client.settings, one, 0, True) for one in args.filter_out]
        client.on_error(self._errors.append)
        for topic_filter in self._filters:
            client.subscribe(topic_filter, self._note, args.qos)
        hint = home_hint(self._filters)
        if hint and client.stats["outside"]:
            raise FatalError(f"the broker shows none of that, by the rules in its bundle{hint}")
        self._last_s = begun_s = time.monotonic()
        while self._left != 0 and not reader_has_gone():
            now_s = time.monotonic()
            if args.wait is not None and now_s - begun_s >= args.wait:
                return _TIMED_OUT
            if not client.connected:
                self._last_s = now_s
            if args.retained_only and now_s - self._last_s >= _RETAINED_S:
                break
            client.wait(_TURN_S)
            self._look_at_errors()
        if self._unwritten is not None:
            raise self._unwritten
        return 0

    def _look_at_errors(self) -> None:
        for error in self._errors:
            if isinstance(error, SubscriptionRefused):
                raise FatalError(f"{error}{home_hint(self._filters)}") from error
            if not isinstance(error, SecureMQTTError):
                raise error
        self._errors.clear()  # the others have been logged, and are tried again

    def _note(self, message: Message) -> None:
        args = self._args
        self._last_s = time.monotonic()
        if self._left == 0 or (args.no_retained if message.retain else args.retained_only):
            return
        if any(covers(one, message.topic) for one in self._left_out):
            return
        if self._left is not None:
            self._left -= 1
        try:
            self._printer.show(message)
        except OutputError as error:  # raised in a handler, it would only be logged
            self._left = 0
            self._unwritten = error
