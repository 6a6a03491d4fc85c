"""Files that are whole or absent, and owner-only: how everything secret or precious reaches the
disk.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shlex
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from securemqtt_tools.cli import FatalError

_Value = TypeVar("_Value", list[Any], dict[str, Any])

OWNER_ONLY = 0o600
READABLE = 0o644
_ABANDONED_S = 600  # writing one of these files takes far less
_PATIENCE_S = 30
_LOOK_S = 0.02
_LARGEST_BYTES = 4 << 20  # the CAs that a computer trusts take a twentieth of it
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn an OSError inside the block into a FatalError that says what could not be done, why, and
    the remedy.

    `action` completes the words "cannot …", for example "write /tmp/ca.crt".
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise FatalError(
                f"cannot {action}: the disk (or your quota) is full; free some space and try again"
            ) from error
        raise FatalError(f"cannot {action}: {error.strerror or error}") from error


def make_directory(path: Path) -> None:
    """Make a directory (and its parents), owner-only where it is new; FatalError when that
    fails.
    """
    with explained(f"make the directory {path}"):
        missing = [one for one in (path, *path.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
            sync_directory(one.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, as fsync does for a file's content."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_files(directory: Path, contents: Mapping[str, bytes], mode: int = OWNER_ONLY) -> None:
    """Write several files into a directory: each is seen with its old content or its new one, never
    with a part.

    All of them are written beside their places and made durable first, and only then renamed one
    after the other, so a full disk changes nothing. Raise FatalError.
    """
    make_directory(directory)
    staged: list[tuple[Path, Path]] = []
    with explained(f"write to {directory}"):
        try:
            for name, content in contents.items():
                temporary = _write_beside(directory / name, content, mode)
                staged.append((temporary, directory / name))
            while staged:
                temporary, final = staged[0]
                temporary.replace(final)
                staged.pop(0)
            sync_directory(directory)
        finally:
            for temporary, _ in staged:
                temporary.unlink(missing_ok=True)


def write_file(path: Path, content: bytes, mode: int = OWNER_ONLY) -> None:
    """Write one file as `write_files` does. Raise FatalError."""
    write_files(path.parent, {path.name: content}, mode)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file that is read, changed and written back by several processes; they
    wait for each other, for up to 30 s. Not to be nested. Raise FatalError.
    """
    # No link is followed: with sudo, its target would come to belong to the directory's owner.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with explained(f"lock {path}"):
        lock = os.open(path.with_name(f".{path.name}.lock"), flags, OWNER_ONLY)
    try:
        with explained(f"lock {path}"):
            _give_to_owner(lock, path.parent)
            _take(lock, path)
        yield
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise FatalError(
                    f"another command has kept {path} from being changed for {_PATIENCE_S} s: end "
                    f"it, or try again later"
                ) from error
            time.sleep(_LOOK_S)
        else:
            return


def _write_beside(path: Path, content: bytes, mode: int) -> Path:
    _remove_leftovers(path)
    # owner-only
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            _give_to_owner(file.fileno(), path.parent)
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _give_to_owner(descriptor: int, directory: Path) -> None:
    """Have a file belong to whoever has its directory: with sudo, one in a user's home stays the
    user's.
    """
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed half way left beside `path`: it may hold a private
    key.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(FileNotFoundError):  # another process may be faster
            if leftover.stat().st_mtime < time.time() - _ABANDONED_S:
                leftover.unlink()


def read_foreign(path: Path) -> bytes:
    """Read a file that somebody else may have made: a certificate, a program. FatalError where it
    is larger than any of them, or, as /dev/zero, has no end.
    """
    with explained(f"read {path}"), path.open("rb") as file:
        return _bounded(file, path)


def read_json(path: Path, kind: type[_Value], remedy: str) -> _Value:
    """Read a list or a dict, as `kind` says, from a file of JSON; an empty one where there is no
    file. FatalError with the remedy when it is damaged.
    """
    with explained(f"read {path}"):
        if not path.exists():
            return kind()
        content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError as error:
        raise FatalError(f"{path} is damaged: {remedy}") from error
    if not isinstance(value, kind):
        raise FatalError(f"{path} is damaged: {remedy}")
    return value


def read_private(path: Path) -> bytes:
    """Read a file that only its owner may read; FatalError with the chmod to run when others may as
    well, and where `read_foreign` has it.
    """
    with explained(f"read {path}"), path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise FatalError(
                f"{path} is open to other users (mode {stat.S_IMODE(mode):o}): run chmod 600 "
                f"{shlex.quote(str(path))}"
            )
        return _bounded(file, path)


def _bounded(file: BinaryIO, path: Path) -> bytes:
    content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise FatalError(
            f"{path} is larger than {_LARGEST_BYTES >> 20} MB: that is no file for this purpose"
        )
    return content
