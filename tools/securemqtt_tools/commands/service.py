"""Have systemd run your program: from the moment the machine has power, again after a failure,
locked in, and ended in order.

The unit names the Python, and so the virtual environment, that this command is called with.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from securemqtt.outbox.disk import LOCK as OUTBOX_LOCK
from securemqtt.platform import escaped
from securemqtt_tools.cli import FatalError, Subcommand, add_subcommands, as_called
from securemqtt_tools.service.checks import check_program, mistakes, plan
from securemqtt_tools.service.systemd import STATES, NotRunning, Systemd
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
                "print the unit that `install` would write, and what `install` would refuse",
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
                " What it has kept, such as messages that were not delivered, stays, and it is "
                "told where that is.",
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
    for reason in (*mistakes(service), *Systemd(args.system).conflicts(service)):
        said = escaped(as_called(reason))
        print(f"securemqtt: `install` would refuse it: {said}", file=sys.stderr)


def _refuse(reasons: Iterable[str]) -> None:
    """Raise FatalError for the first reason, if there is one."""
    for reason in reasons:
        raise FatalError(reason)


def _install(args: argparse.Namespace) -> None:
    systemd = Systemd(args.system)
    # The user's own mistakes first; the bundle may be root's alone to read.
    check_program(args.program)
    systemd.require_rights("install")
    service = _plan(args)
    _refuse(mistakes(service))
    unasked = _unasked(systemd, args.dry_run)
    _refuse(systemd.conflicts(service))
    path = systemd.unit_path(service.name)
    text = render(service)
    before = path.read_text() if path.exists() else ""
    if args.dry_run:
        print(_difference(path, before, text), end="")
        then = (
            f"Here `install` would be refused, and systemd could not be asked: {unasked}"
            if unasked
            else f"{service.name} would be started, and at each boot."
        )
        print(f"Dry run: nothing was changed. {then}")
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


def _unasked(systemd: Systemd, dry_run: bool) -> str:
    """Return why systemd cannot be asked, which is no matter for a dry run; empty if it can. Raise
    FatalError.
    """
    try:
        systemd.require_running()
    except NotRunning as error:
        if not dry_run:
            raise
        return escaped(as_called(str(error)))
    return ""


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
    systemd.require_rights("remove")
    systemd.require_running()
    systemd.stop(args.name)
    try:
        path.unlink()
    except OSError as error:
        raise FatalError(f"cannot remove {path}: {error.strerror}") from error
    systemd.forget(args.name)
    print(f"{args.name} has ended, and {path} is gone.")
    state = STATES / args.name
    kept = _kept(state) if args.system else []
    if kept:
        outbox = state.resolve() / "bundle" / "outbox"
        what = ", with messages that were not delivered," if outbox in _parents(kept) else ""
        print(f"  What it kept{what} is still in {state}.")


def _kept(state: Path) -> list[Path]:
    """Return the files in a service's directory but for what it has by itself: links to the
    bundle's files, and the lock of an outbox.
    """
    found = (
        Path(directory, name)
        for directory, _, names in os.walk(state.resolve())
        for name in names
        if name != OUTBOX_LOCK
    )
    return [path for path in found if not path.is_symlink()]


def _parents(paths: list[Path]) -> set[Path]:
    return {parent for path in paths for parent in path.parents}
