"""Root's rights: given up where the files are another user's, and used on nothing that others could
have changed.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import securemqtt_tools
from securemqtt_tools.cli import FatalError

_UNPRIVILEGED_FROM = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def holder(path: Path) -> int:
    """Return the id of the user who decides what is at `path`: of the directories on the way to it,
    and itself, the first that is not root's has that owner. 0 if all are root's.
    """
    for one in _way(path):
        try:
            owner = one.stat().st_uid
        except FileNotFoundError:
            return 0
        if owner != 0:
            return owner
    return 0


def name_of(user: int) -> str:
    """Return a user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def check_only_roots(path: Path) -> None:
    """Raise FatalError if anybody but root decides what is at `path`, or may change it."""
    for one in _way(path):
        status = one.stat()
        if status.st_uid != 0:
            raise FatalError(
                f"{one} is in the hands of the user {name_of(status.st_uid)}, who would decide "
                f"what root's Mosquitto does: give it to root (chown), or say where the "
                f"configuration is with --etc"
            )
        # In /tmp and its like (sticky) nobody can move what is root's.
        kept = status.st_mode & stat.S_ISVTX and one != path.resolve()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not kept:
            raise FatalError(
                f"{one} can be changed by others than root, who would decide what root's "
                f"Mosquitto does: run chmod go-w {one}"
            )


def become_holder(directory: Path) -> str | None:
    """Become, for good, the user whose `directory` is, if we are root and it is not root's; return
    the user's name, None if we stay who we are.

    Else root would follow what that user, or a broker that somebody took over, has put into the
    directory. Raise FatalError if that user could not do what is to be done.
    """
    if os.geteuid() != 0 or not directory.exists():
        return None
    directory = directory.resolve()
    user = holder(directory)
    if user == 0:
        return None
    name = name_of(user)
    try:
        group = pwd.getpwuid(user).pw_gid
        os.initgroups(name, group)
    except KeyError:  # a number without a name has no groups but its directory's
        group = directory.stat().st_gid
        os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    for program, use in ((sys.executable, os.X_OK), (securemqtt_tools.__file__, os.R_OK)):
        if not os.access(program, use):
            raise FatalError(
                f"the broker of {directory} runs as {name}, whose it is, and {name} cannot use "
                f"{program}: install securemqtt where {name} can"
            )
    foreign = next(_not_of(user, directory), None)
    if foreign is not None:
        raise FatalError(
            f"the broker of {directory} runs as {name}, whose it is, but {foreign} is another "
            f"user's, perhaps from an earlier run as root: sudo chown -R {name} {directory}"
        )
    return name


def check_port(port: int) -> None:
    """Raise FatalError for a port that is kept for root, once we are no longer root."""
    try:
        first = int(_UNPRIVILEGED_FROM.read_text())
    except (OSError, ValueError):  # not Linux
        return
    if 0 < port < first:
        raise FatalError(
            f"port {port} is kept for root, and the broker does not run as root: choose one from "
            f"{first} on (securemqtt broker init --force --port 8883), or securemqtt broker install"
        )


def _way(path: Path) -> Iterator[Path]:
    """Yield the directories on the way to a path, from the top, and itself."""
    resolved = path.resolve()
    yield from reversed(resolved.parents)
    yield resolved


def _not_of(user: int, directory: Path) -> Iterator[Path]:
    """Yield what in a directory is not a user's, or is a directory that the user cannot look
    into.
    """
    for one in (directory, *_listed(directory)):
        status = one.lstat()
        if status.st_uid != user or (stat.S_ISDIR(status.st_mode) and not os.access(one, os.X_OK)):
            yield one


def _listed(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except PermissionError:
        return []
