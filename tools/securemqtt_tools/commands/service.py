"""Have systemd run your program: from the moment the machine has power, again after a failure,
locked in, and ended in order.

The unit names the Python, and so the virtual environment, that this command is called with.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from securemqtt.platform import escaped
from securemqtt_tools.cli import FatalError, Subcommand, add_subcommands
from securemqtt_tools.service.checks import check, plan
from securemqtt_tools.service.systemd import Systemd
from securemqtt_tools.service.unit import Service, render

_READABLE = 0o644


_EXAMPLES = """\
Examples:
  securemqtt service show my_program.py                 what systemd would be given, and why
  sudo .venv/bin/securemqtt service install my_program.py --dry-run
  sudo .venv/bin/securemqtt service install my_program.py
  securemqtt service status my_program                  does it run, what did it print
  sudo .venv/bin/securemqtt service remove my_program
  securemqtt service install my_program.py --user       without root: a service of your own
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.epilog = _EXAMPLES
    add_subcommands(
        parser,
        "service",
        (
            Subcommand(
                "show",
                "print the unit that `install` would write",
                _configure_program,
                _show,
                ("show my_program.py", "show my_program.py --user > my_program.service"),
            ),
            Subcommand(
                "install",
                "write the unit, start the program now and at each boot",
                _configure_install,
                _install,
                (
                    "install my_program.py --dry-run",
                    "install /opt/sensor/sensor.py --group i2c",
                    "install my_program.py --user",
                    "install my_program.py --name pump --arguments='--every 10'",
                ),
                " Run it again after a change, of the program, the bundle or an option: it starts "
                "the program anew.",
            ),
            Subcommand(
                "status",
                "does it run, what has it printed, and how to look further",
                _configure_name,
                _status,
                ("status my_program", "status my_program --user"),
            ),
            Subcommand(
                "remove",
                "stop the program and take its unit away",
                _configure_name,
                _remove,
                ("remove my_program", "remove my_program --user"),
                " Its directory, with what was not delivered, stays, and it is told where that is.",
            ),
        ),
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand. Raise FatalError."""
    action: Callable[[argparse.Namespace], int | None] = args.action
    return action(args) or 0


def _configure_scope(parser: argparse.ArgumentParser) -> None:
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument(
        "--system",
        action="store_true",
        default=True,
        help="a service of the machine's (the default); needs root",
    )
    scope.add_argument(
        "--user",
        dest="system",
        action="store_false",
        help="one of your own, with your rights, less protected",
    )


def _configure_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="PROGRAM", help="a file of Python")
    parser.add_argument(
        "--arguments",
        type=_words,
        default=(),
        metavar="WORDS",
        help="what the program is called with, quoted as in a shell: --arguments='--every 10'",
    )
    parser.add_argument("--name", help="the service's name (default: the program's)")
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="the device's bundle (default: where a client finds it)",
    )
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="GROUP",
        help="let it use this group's devices: i2c, spi, gpio, dialout; may be repeated",
    )
    _configure_scope(parser)


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{str(error).lower()}: {text!r}") from error


def _configure_install(parser: argparse.ArgumentParser) -> None:
    _configure_program(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and do nothing"
    )


def _configure_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the service, as `install` called it")
    _configure_scope(parser)


def _plan(args: argparse.Namespace) -> Service:
    return plan(
        args.program,
        name=args.name,
        arguments=args.arguments,
        bundle=args.bundle,
        groups=args.group,
        system=args.system,
        home=args.home,
    )


def _show(args: argparse.Namespace) -> None:
    service = _plan(args)
    print(render(service), end="")
    try:
        check(service)
    except FatalError as error:
        print(f"securemqtt: `install` would refuse it: {escaped(str(error))}", file=sys.stderr)


def _install(args: argparse.Namespace) -> None:
    systemd = Systemd(args.system)
    systemd.require("install")
    service = _plan(args)
    check(service)
    systemd.check_free(service.name)
    path = systemd.unit_path(service.name)
    text = render(service)
    before = path.read_text() if path.exists() else ""
    if args.dry_run:
        print(_difference(path, before, text), end="")
        print(f"Dry run: nothing was changed. {service.name} would be started, and at each boot.")
        return
    if text != before:
        _write(path, text)
        print(f"Wrote {path}.")
    systemd.start(service.name)
    systemd.check_running(service.name)
    print(f"{service.name} runs, and starts {'at each boot' if systemd.lingers() else 'with you'}.")
    if not systemd.lingers():
        print(
            "  It ends when you log out. To have it run without you: sudo loginctl enable-linger "
            "$USER"
        )
    if not service.answers_sigterm:
        print(
            "  The program has no answer to SIGTERM, so it is ended as by Ctrl-C, which leaves a "
            "traceback in the journal; docs/pi-service.md has the lines for it."
        )
    print(f"  Look at it: {shlex.join(_status_command(service))}")


def _status_command(service: Service) -> list[str]:
    return [
        "securemqtt",
        "service",
        "status",
        service.name,
        *([] if service.system else ["--user"]),
    ]


def _difference(path: Path, before: str, after: str) -> str:
    if not before:
        return f"{path} would be:\n\n{after}\n"
    if before == after:
        return f"{path} is as it should be.\n"
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "is", "would be"
    )
    return f"{path} would change:\n\n{''.join(lines)}\n"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.chmod(_READABLE)
        temporary.replace(path)
    except OSError as error:
        raise FatalError(f"cannot write {path}: {error.strerror}") from error


def _status(args: argparse.Namespace) -> int:
    systemd = Systemd(args.system)
    path = systemd.require_ours(args.name)
    known = systemd.properties(args.name)
    state = known.get("ActiveState", "unknown")
    runs = state == "active"
    print(f"{args.name}: {_in_words(known)}")
    print(f"  the unit  {path}")
    log = systemd.log(args.name)
    if log:
        print("  what it has printed last, and what systemd says of it:")
        print("\n".join(f"    {escaped(line)}" for line in log.split("\n")))
    print("To look further, and to act:")
    for what, command in (
        ("all it prints, as it comes", f"{systemd.journal} {args.name} --follow"),
        ("what was printed since the last boot", f"{systemd.journal} {args.name} --boot"),
        ("what systemd knows", f"{systemd.call} status {args.name}"),
        ("start it anew", f"{systemd.call} restart {args.name}"),
        ("stop it until the next boot", f"{systemd.call} stop {args.name}"),
        ("a setting of your own", f"{systemd.call} edit {args.name}"),
    ):
        print(f"  {command:<48} {what}")
    return 0 if runs else 3


def _in_words(known: dict[str, str]) -> str:
    state = known.get("ActiveState", "unknown")
    at_boot = "" if known.get("UnitFileState") == "enabled" else ", and does not start by itself"
    restarts = known.get("NRestarts", "0")
    again = f", started again {restarts} times" if restarts not in ("0", "") else ""
    if state == "active":
        return f"runs (process {known.get('MainPID')}){again}{at_boot}"
    if known.get("SubState") == "auto-restart":
        return f"has failed ({known.get('Result')}), and is started again in a moment{again}"
    if state == "failed":
        return f"has failed ({known.get('Result')}) and is left alone{again}{at_boot}"
    return f"{state}{at_boot}"


def _remove(args: argparse.Namespace) -> None:
    systemd = Systemd(args.system)
    path = systemd.require_ours(args.name)
    systemd.require("remove")
    systemd.stop(args.name)
    try:
        path.unlink()
    except OSError as error:
        raise FatalError(f"cannot remove {path}: {error.strerror}") from error
    systemd.forget(args.name)
    print(f"{args.name} has ended, and {path} is gone.")
    state = Path("/var/lib", args.name)
    if args.system and state.exists():
        print(f"  What it kept, with messages that were not delivered, is still in {state}.")
