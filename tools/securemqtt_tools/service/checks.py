"""What can be seen of a program before it is a service; each mistake is one line."""

from __future__ import annotations

import ast
import grp
import os
import pwd
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from securemqtt.bundle import exists
from securemqtt.config import load
from securemqtt.errors import SecureMQTTError, WrongKeyPassword
from securemqtt.outbox.disk import LOCK as OUTBOX_LOCK
from securemqtt.platform import bundle_places
from securemqtt.tls.openssl import make_context
from securemqtt_tools.cli import FatalError
from securemqtt_tools.service.unit import FORBIDDEN, Service
from securemqtt_tools.sudo import caller_home

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
# A service does not see these, or sees empty ones.
_ROOT = Path("/root")
_HOMES = (Path("/home"), _ROOT, Path("/run/user"))
_PASSING = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  (named, not used)
_SECRETS = (".ssh", ".gnupg", ".securemqtt")
_READ, _SEARCH, _WRITE = 4, 1, 2


def plan(
    program: Path,
    *,
    name: str | None,
    arguments: Sequence[str],
    bundle: Path | None,
    groups: Sequence[str],
    system: bool,
    home: Path,
) -> Service:
    """Return what is to run. Raise FatalError for what cannot work."""
    path = program.expanduser().resolve()
    answers = _answers_sigterm(path)
    # The link in a virtual environment, not what it leads to: that knows nothing of its packages.
    python = Path(sys.executable)
    used = (path, python, Path(sys.prefix), Path(sys.base_prefix))
    for one in used:
        _check_path(one)
    for argument in arguments:
        _check_printable(argument)
    owner = _owner(path) if system else None
    places = [home, *(Path(pwd.getpwnam(owner).pw_dir, one) for one in _SECRETS)] if owner else []
    service = Service(
        name=_name(name, path),
        program=path,
        arguments=tuple(arguments),
        python=python,
        bundle=bundle.expanduser().resolve() if bundle else _found(system),
        system=system,
        owner=owner,
        groups=tuple(_group(one) for one in groups),
        hidden=tuple(dict.fromkeys(places)),
        answers_sigterm=answers,
    )
    _check_path(service.bundle)
    return service


def mistakes(service: Service) -> Iterator[str]:
    """Yield where the bundle is not whole, or has what the service would not get; where the
    program, or its Python, lies where such a service sees nothing, or where anybody may change it.
    """
    yield from _in_bundle(service)
    if service.system:
        yield from _passing(service.program, service.python)
        for one in (service.program, service.program.parent):
            if one.stat().st_mode & _WRITE:
                yield f"anybody may change {one}: chmod o-w {one}"
        yield from _out_of_reach(service)


def check_program(program: Path) -> None:
    """Raise FatalError if there is no such program, or it is no Python."""
    _parsed(program.expanduser().resolve())


def _parsed(program: Path) -> ast.Module:
    try:
        return ast.parse(program.read_bytes(), filename=program.name)
    except FileNotFoundError as error:
        raise FatalError(f"there is no program {program}") from error
    except OSError as error:
        raise FatalError(f"cannot read the program {program}: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise FatalError(f"{program}{line} is no Python: {error.args[0]}") from error


def _answers_sigterm(program: Path) -> bool:
    """Return True if a program has an answer to SIGTERM. Raise FatalError if it is none."""
    return any(
        isinstance(one, (ast.Attribute, ast.Name))
        and (one.attr if isinstance(one, ast.Attribute) else one.id) == "SIGTERM"
        for one in ast.walk(_parsed(program))
    )


def _check_path(path: Path) -> None:
    """Raise FatalError for a path that cannot be written into a unit."""
    _check_printable(str(path))
    if set(str(path)) & FORBIDDEN:
        raise FatalError(
            f"{path} cannot be written into a unit of systemd: rename it, without quotes, $, ;"
        )


def _check_printable(text: str) -> None:
    if not text.isprintable():
        raise FatalError(f"{text!r} cannot be written into a unit of systemd: it is not printable")


def _name(given: str | None, program: Path) -> str:
    name = re.sub("[^a-z0-9_-]+", "-", program.stem.lower()) if given is None else given
    if not _NAME.fullmatch(name):
        raise FatalError(
            f"{name!r} is no name for a service: 1 to 31 of a-z 0-9 _ -, the first a letter"
            + (" (--name NAME)" if given is None else "")
        )
    return name


def _owner(program: Path) -> str | None:
    """Return the user whose program it is, None if it is root's. Raise FatalError."""
    status = program.stat()
    if status.st_uid == 0:
        return None
    try:
        return pwd.getpwuid(status.st_uid).pw_name
    except KeyError as error:
        raise FatalError(
            f"{program} belongs to user {status.st_uid}, who does not exist: "
            f"sudo chown root: {program}"
        ) from error


def _passing(*paths: Path) -> Iterator[str]:
    """Yield what lies where things come and go: a service has one of its own."""
    for path in paths:
        for place in _PASSING:
            if place in (*path.parents, *path.resolve().parents):
                yield f"{path} is below {place}, which no service sees: put it elsewhere"
                break


def _out_of_reach(service: Service) -> Iterator[str]:
    """Yield why the service could not read its program, or its Python."""
    yield from _unseen(service, service.program, "put it below /opt (docs/pi-service.md)")
    anew = (
        "make an environment below /opt with the system's Python, sudo /usr/bin/python3 -m venv "
        "DIR, and call its securemqtt (docs/pi-service.md)"
    )
    library = Path(sys.modules["securemqtt"].__file__ or "")
    for path in (service.python, Path(os.__file__), library):
        found = list(_unseen(service, path, anew))
        if found:  # with the one, most often, the others are where they should not be, too
            yield from found
            return


def _unseen(service: Service, path: Path, remedy: str) -> Iterator[str]:
    """Yield why the service could not read a file, or what a link leads to."""
    resolved = path.resolve()
    owner, program = service.owner, service.program
    if owner is None and (_at_home(path) or _at_home(resolved)):
        leads = "" if _at_home(path) else f" leads to {resolved}, which"
        # What is in root's home is nobody else's to read.
        of_root = _ROOT in (*path.parents, *resolved.parents)
        other = "" if of_root else f", or give the program to its user: sudo chown USER: {program}"
        yield (
            f"{path}{leads} is in somebody's home, and {program}, which is root's, is to run as a "
            f"user who sees none: {remedy}{other}"
        )
    elif not _may_read(resolved, owner):
        what = path if path == resolved else f"{resolved}, which {path} leads to"
        yield (
            f"{owner or 'a user of its own'} could not read {what}: {remedy}, or see to its mode "
            "(chmod)"
        )


def _at_home(path: Path) -> bool:
    return any(place in path.parents for place in _HOMES)


def _may_read(path: Path, owner: str | None) -> bool:
    """Return True if a user, or one whom nothing belongs to, may read a file."""
    uid, groups = -1, set[int]()
    if owner is not None:
        entry = pwd.getpwnam(owner)
        uid, groups = entry.pw_uid, set(os.getgrouplist(owner, entry.pw_gid))
    return all(
        _allowed(parent.stat(), uid, groups, _SEARCH) for parent in path.parents
    ) and _allowed(path.stat(), uid, groups, _READ)


def _allowed(status: os.stat_result, uid: int, groups: set[int], right: int) -> bool:
    shift = 6 if status.st_uid == uid else 3 if status.st_gid in groups else 0
    return bool(status.st_mode >> shift & right)


def _group(name: str) -> str:
    try:
        entry = grp.getgrnam(name)
    except KeyError as error:
        raise FatalError(f"there is no group {name} on this machine (--group)") from error
    if entry.gr_gid == 0:
        raise FatalError(
            f"--group {name} is root's group, and a service has none of root's powers: name the "
            "group that the device belongs to (ls -l /dev), such as i2c or dialout"
        )
    return entry.gr_name


def _in_bundle(service: Service) -> Iterator[str]:
    """Yield why the bundle is not whole, and what the service would not get of it."""
    directory = service.bundle
    try:
        make_context(settings := load(str(directory), {}))
    except WrongKeyPassword:  # the program will have it
        settings = load(str(directory), {})
    except SecureMQTTError as error:
        yield str(error)
        return
    if not service.system:
        return
    for name in (settings.ca, settings.certificate, settings.key, settings.password_file):
        for one in [name] if isinstance(name, str) else name or []:
            if "/" in str(one):
                yield (
                    f"{directory}/config.json names {one}: a service is given the files in the "
                    "bundle itself; put it there"
                )
    for path in sorted(directory.iterdir()):
        # An outbox that has sent everything keeps its lock, and nothing else.
        if path.is_dir() and any(one.name != OUTBOX_LOCK for one in path.iterdir()):
            yield (
                f"{path} is in the bundle, and the service has an outbox of its own: run the "
                f"program until it has sent what is there, then remove it: rm -r {path}"
            )


def _found(system: bool) -> Path:
    places = [Path(one) for one in bundle_places()]
    caller = caller_home()
    if system and caller and "SECUREMQTT_BUNDLE" not in os.environ:
        places.append(caller / ".config" / "securemqtt")
    for place in places:
        if exists(str(place / "config.json")):
            return place.resolve()
    raise FatalError(
        f"there is no bundle in {' or '.join(map(str, places))}: name it with --bundle DIR, or "
        "make one: securemqtt provision pi --out DIR --id ID --broker HOST"
    )
