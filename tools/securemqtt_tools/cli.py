"""The frame of every host command: options in common, one line for a user's mistake, the exit
status.

`securemqtt provision …` and `python tools/provision.py …` both end up in `main`, by way of
`entry.run`. A command is a module in `securemqtt_tools.commands` with two names:

    configure(parser)       adds the arguments (argparse); examples go in parser.epilog
    run(args) -> int        does the work, prints, returns the exit status; raises FatalError
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from securemqtt.platform import escaped
from securemqtt_tools import entry
from securemqtt_tools.errors import FatalError as FatalError  # where all commands take it from
from securemqtt_tools.home import Home
from securemqtt_tools.naming import Naming, closest
from securemqtt_tools.output import whole_output
from securemqtt_tools.resources import tools_remedy

# What the list of commands says of each. It stands here and not with the command, whose module may
# need packages that are not installed.
COMMANDS = {
    "ca": "certificate authority: init, server, device, sign, renew, revoke, crl, recover, list, "
    "show",
    "broker": "MQTT broker with mutual TLS: init, run, status, reload, issuer, renew, grant, "
    "password, install, check, client-config",
    "provision": "put certificates and the library on a board, or a bundle on a Raspberry Pi",
    "pub": "publish messages: say something, or send lines from a pipe",
    "sub": "show messages as they come",
    "selftest": "try the contract's scenarios on your board: a report that can be sent in",
    "service": "your program as a service of systemd: show, install, status, remove",
    "simboard": "a simulated board on a serial port, with MicroPython, flash and Wi-Fi",
    "completion": "have the Tab key complete commands, options, ids and topics",
    "demo": "the whole system on this machine, with intruders: every promise, checked",
}
_NAMING = Naming(COMMANDS)
_BELOW = " " * 6
_WRITTEN_COLUMNS = 98  # as wide as the texts in the source are
_EXAMPLES = """\
From nothing to a board that reports, on the computer that is to be the authority:
  securemqtt ca init                                 an authority of your own, once
  securemqtt broker init mqtt.local --operator hub   a broker for whom it has certified, once
  securemqtt broker run                              or install, into this machine's Mosquitto
  securemqtt provision pico_w --id greenhouse-1 --broker mqtt.local --wifi MyNetwork
  securemqtt provision pi --out ~/.config/securemqtt --id hub --broker mqtt.local

No board yet? securemqtt simboard run. All of it at once, on this machine: securemqtt demo.
Each command, and each of its own commands, has --help with examples.
"""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves texts and examples as they were written, unless the terminal is too narrow for them;
    names commands as they are called here.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        text = as_called(text)
        if max(map(len, text.splitlines()), default=0) <= width or width >= _WRITTEN_COLUMNS:
            return super()._fill_text(text, width, indent)
        return "\n\n".join(_narrow(part, width) for part in text.strip("\n").split("\n\n"))


def _narrow(paragraph: str, width: int) -> str:
    """Fold a paragraph; of indented lines, which are examples, the explanation behind the command
    goes on lines of its own.
    """
    lines: list[str] = []
    prose: list[str] = []
    for line in paragraph.splitlines():
        if line[:1] != " ":
            prose.append(line)
            continue
        lines += textwrap.wrap(" ".join(prose), width)
        prose.clear()
        command, gap, explanation = re.sub(r"(?<=\S) {2,}", "\0", line, count=1).partition("\0")
        if len(line) <= width:
            lines.append(line)
            continue
        lines.append(command)  # to be copied in one piece, however long it is
        if gap:
            lines += textwrap.wrap(
                explanation, width, initial_indent=_BELOW, subsequent_indent=_BELOW
            )
    return "\n".join([*lines, *textwrap.wrap(" ".join(prose), width)])


class _Parser(argparse.ArgumentParser):
    """A parser, and so are those of its subcommands, for which a mistake is one line, as any other
    is.

    Options go by their whole names, or `--passphrase SECRET` would pass for `--passphrase-file`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._given: list[str] = []  # the words that are being parsed

    def error(self, message: str) -> NoReturn:
        meant = self._meant_option()
        hint = f"; did you mean {meant}?" if meant else ""
        raise FatalError(f"{message} (see {self.prog} --help){hint}")

    def _meant_option(self) -> str | None:
        """Return the option that was probably meant by the first that is not known; None if there
        is none.
        """
        names = (text.partition("=")[0] for text in self._given if text.startswith("--"))
        unknown = [name for name in names if name not in self._option_string_actions]
        return closest(unknown[0], self._option_string_actions) if unknown else None

    def format_help(self) -> str:
        return as_called(super().format_help())

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check a value against an argument's choices, as argparse does; name the one that was
        probably meant.
        """
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = closest(str(value), map(str, action.choices or ()))
            if meant:
                error.message += f"; did you mean {meant}?"
            raise

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Have a subcommand refuse what it does not know itself, since it is its help that is
        wanted then.

        An option is named without its value, which may be a password that was thought to go there.
        """
        self._given = list(args or ())
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [text.partition("=")[0] for text in unknown if text.startswith("-")]
            self.error(f"unrecognized arguments: {' '.join(names or unknown)}")
        return known, unknown


def as_called(text: str) -> str:
    """Return text in which each `securemqtt COMMAND` is what this user types: in a clone of the
    project that is `python tools/COMMAND.py`.
    """
    return _NAMING.as_called(text)


def warn(text: str) -> None:
    """Warn of something in one line on standard error, where anybody still listens: it does not end
    the command.
    """
    if sys.stderr is not None:  # else `print` takes standard output
        with suppress(OSError):
            print(f"securemqtt: warning: {escaped(as_called(text))}", file=sys.stderr, flush=True)


def whole_number(lowest: int, highest: int, unit: str = "") -> Callable[[str], int]:
    """Return what argparse reads a number with: one in words is told the range."""

    def read(text: str) -> int:
        number = parse_whole_number(text)
        if number is None or not lowest <= number <= highest:
            wanted = f"a whole number from {lowest} to {highest}" + (f" {unit}" if unit else "")
            raise argparse.ArgumentTypeError(f"must be {wanted}, not {text[:40]!r}")
        return number

    return read


def directory(text: str) -> Path:
    """Read the path of a directory for argparse; an empty one, as an unset variable leaves it,
    would be the current directory.
    """
    if not text:
        raise argparse.ArgumentTypeError("must name a directory, and is empty (. is this one)")
    return Path(text)


def parse_whole_number(text: str) -> int | None:
    """Return the number that a text is, in plain digits; None if it is none, or beyond 18 of them,
    which no number here may have.
    """
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        return None
    return int(text)


class Subcommand(NamedTuple):
    """One of the commands of a command.

    `examples` are what comes after `securemqtt COMMAND`, `more` what its help says beyond `help`.
    """

    name: str
    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    action: Callable[[argparse.Namespace], int | None]
    examples: tuple[str, ...]
    more: str = ""


def default_home() -> Path:
    """Return the directory in which the host commands keep their state: $SECUREMQTT_HOME, else
    ~/.securemqtt.
    """
    named = os.environ.get("SECUREMQTT_HOME")
    return Path(named) if named else Home.of(Path.home()).path


def add_home_option(parser: argparse.ArgumentParser) -> None:
    """Add `--home DIR`, common to all commands that keep state on the host."""
    parser.add_argument(
        "--home",
        type=Path,
        default=default_home(),
        metavar="DIR",
        help="where the authority, the broker, bundles and the cache are kept (default: "
        "$SECUREMQTT_HOME, else ~/.securemqtt)",
    )


def _add_version_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="the version of securemqtt and of what it runs on, for a report",
    )


class _Version(argparse.Action):
    """Print the version and end: found only now, since Mosquitto has to be asked for its own."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from securemqtt_tools.versions import version_lines

        print("\n".join(version_lines()))
        parser.exit()


def add_subcommands(
    parser: argparse.ArgumentParser, command: str, subcommands: Iterable[Subcommand]
) -> None:
    """Add the subcommands of `command`, each with --home; the one that is called is
    `args.action`.
    """
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for subcommand in subcommands:
        title = subcommand.help
        end = "" if title.endswith("?") else "."
        subparser = subparsers.add_parser(
            subcommand.name,
            help=title,
            description=f"{title[0].upper()}{title[1:]}{end}{subcommand.more}",
            epilog="Examples:\n"
            + "\n".join(f"  securemqtt {command} {example}" for example in subcommand.examples),
            formatter_class=HelpFormatter,
        )
        subcommand.configure(subparser)
        add_home_option(subparser)
        subparser.set_defaults(action=subcommand.action)


def main(
    argv: Sequence[str] | None = None, command: str | None = None, scripts: Path | None = None
) -> int:
    """Run the command that `argv` names, or `command` with `argv` as its arguments; return the exit
    status.

    `scripts` is the directory of the script that was called, where it was one (`tools/broker.py`).
    """
    _NAMING.scripts = scripts
    arguments = list(sys.argv[1:] if argv is None else argv)
    if os.name == "nt":  # where most commands would lack a module of Python's own
        print(
            "securemqtt: the tools run on Linux and macOS, not on Windows itself: use them within "
            "WSL 2, as docs/works-or-not-shown.md says",
            file=sys.stderr,
        )
        return 1
    try:
        with whole_output():
            args = _parse(arguments, command)
            if hasattr(args, "home"):  # no shell does it in --home=~/elsewhere
                args.home = _expanded(args.home)
            entry.loaded()
            status: int = args.run(args)
            return status
    except FatalError as error:
        print(f"securemqtt: {escaped(as_called(str(error)))}", file=sys.stderr)
        return 1
    except PermissionError as error:
        if not isinstance(error.filename, str):
            raise
        print(
            f"securemqtt: no permission for {escaped(error.filename)}: run this as the user whose "
            "it is, or have its owner, or mode, changed (chown, chmod)",
            file=sys.stderr,
        )
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("securemqtt"):
            raise
        print(
            f"securemqtt: the tools need a package that is not installed ({error.name}): "
            f"{tools_remedy()}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return entry.interrupted()


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise FatalError(f"there is no user whose home {path} would be") from error


def _parse(arguments: list[str], command: str | None) -> argparse.Namespace:
    from securemqtt_tools import completion

    # `provision selftest PORT` takes none of the options of `provision`.
    if command == "provision" and arguments[:1] == ["selftest"]:
        command, arguments = "selftest", arguments[1:]
    elif command is None and arguments[:2] == ["provision", "selftest"]:
        arguments = arguments[1:]
    if command is not None:
        parser = _Parser(prog=_NAMING.called(command))
        _add_version_option(parser)
        _configure(parser, _module(command))
        return parser.parse_args(arguments)
    parser = _Parser(
        prog="securemqtt",
        description="MQTT over mutual TLS for a Raspberry Pi and for boards: the tools for your "
        "computer.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    _add_version_option(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    if completion.is_asked():
        arguments = completion.words_so_far()
    # Only the command that is called is loaded: the others may need packages that are not there,
    # and time.
    for name, help_line in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_line)
        if arguments[:1] == [name]:
            _configure(subparser, _module(name))
    if completion.is_asked():
        completion.answer(parser)
    return parser.parse_args(arguments or ["--help"])


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"securemqtt_tools.commands.{name}")


def _configure(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    parser.description = module.__doc__
    parser.formatter_class = HelpFormatter
    parser.set_defaults(run=module.run)
    module.configure(parser)
