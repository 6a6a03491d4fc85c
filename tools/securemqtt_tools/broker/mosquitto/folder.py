"""Directories of a system's configuration, held by descriptors: what is read, written and given
away is what was opened, whatever somebody else makes of the names meanwhile. No link is followed.
"""

from __future__ import annotations

import errno
import os
import pwd
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import OWNER_ONLY, READABLE, explained

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A FIFO is opened without waiting for its other end, and a terminal without becoming ours.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Access lists would let more users in than the mode says.
_ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
# A link is the first or, where a directory is asked for, the second.
_NOT_WHAT_IT_SEEMS = {
    errno.ELOOP: "is a link",
    errno.ENOTDIR: "is a link, or no directory",
    errno.ENXIO: "is no file",
}
_MOST_BYTES = 16 * 1024 * 1024  # some 400,000 revoked certificates
_ABANDONED_S = 600  # writing one of these files takes far less


@dataclass(frozen=True)
class Rights:
    """Who owns files, and their modes."""

    user: int
    group: int
    directory: int
    file: int

    def fits(self, status: os.stat_result, mode: int) -> bool:
        """Return True if this is how things are."""
        found = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        return found == (self.user, self.group, mode)


@dataclass(frozen=True)
class Service:
    """The user that Mosquitto runs as: it may read what is ours, and change nothing."""

    name: str
    user: int
    group: int

    @classmethod
    def named(cls, name: str) -> Service:
        """Look a user up. Raise FatalError when there is none."""
        try:
            found = pwd.getpwnam(name)
        except KeyError as error:
            raise FatalError(
                f"Mosquitto is to run as the user {name}, who does not exist here: install it from "
                f"its package, or make that user"
            ) from error
        return cls(found.pw_name, found.pw_uid, found.pw_gid)

    @property
    def rights(self) -> Rights:
        """How the files lie that the service reads."""
        return Rights(0, self.group, 0o750, 0o640)

    def may_read(self, status: os.stat_result) -> bool:
        """Return True if the service can read such a file already."""
        if self.user in (0, status.st_uid):
            return True
        shown_to = stat.S_IRGRP if status.st_gid == self.group else stat.S_IROTH
        return bool(status.st_mode & shown_to)


class Folder:
    """A directory that is open. Every method raises FatalError."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> Iterator[Folder]:
        """Open a directory by its path, in which links are followed: the caller names it."""
        with explained(f"open {path}"):
            descriptor = os.open(path, _DIRECTORY)
        try:
            yield cls(path, descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def inside(self, name: str) -> Iterator[Folder | None]:
        """Open a directory in this one; None if there is none."""
        descriptor = self._open(name, _DIRECTORY | os.O_NOFOLLOW)
        if descriptor is None:
            yield None
            return
        try:
            yield Folder(self.path / name, descriptor)
        finally:
            os.close(descriptor)

    def make(self, name: str) -> bool:
        """Make a directory in this one, for its owner alone; return False if it is there."""
        with explained(f"write to {self.path} (as root: sudo)"):
            try:
                os.mkdir(name, 0o700, dir_fd=self._descriptor)
            except FileExistsError:
                return False
            os.fsync(self._descriptor)
        return True

    def has(self, rights: Rights) -> bool:
        """Return True if this directory lies as `rights` say."""
        return rights.fits(os.fstat(self._descriptor), rights.directory)

    def take_over(self, rights: Rights) -> None:
        """Make this directory's owner and mode what `rights` say. Whoever it belonged to can change
        nothing in it from then on.
        """
        with explained(f"take over {self.path}"):
            os.fchown(self._descriptor, rights.user, rights.group)
            os.fchmod(self._descriptor, rights.directory)
            for name in _ACCESS_LISTS if hasattr(os, "removexattr") else ():
                try:
                    os.removexattr(self._descriptor, name)
                except OSError as error:
                    if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                        raise

    def read(self, name: str, reader: Service | None = None) -> bytes | None:
        """Return a file's content, None if there is no file.

        With `reader`, one that it could not read by itself is refused: a link would otherwise have
        us show it what is root's. So is what is no file.
        """
        descriptor = self._open(name, READ)
        if descriptor is None:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FatalError(self._strange(name, "is no file"))
            if reader is not None and not reader.may_read(status):
                raise FatalError(self._strange(name, f"is a file that {reader.name} cannot read"))
            with (
                explained(f"read {self.path / name}"),
                os.fdopen(descriptor, "rb", closefd=False) as file,
            ):
                content = file.read(_MOST_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(content) > _MOST_BYTES:
            raise FatalError(self._strange(name, "is larger than any of ours"))
        return content

    def lies(self, name: str, rights: Rights) -> bool:
        """Return True if a file lies as `rights` say."""
        try:
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and rights.fits(status, rights.file)

    def write(self, contents: Mapping[str, bytes], mode: int, rights: Rights | None) -> None:
        """Write files, each seen with its old content or its new one; with `rights` as these say,
        else with this mode.

        All are written beside their places and made durable first, and only then renamed, so a full
        disk changes nothing. What has a file's name, a link too, is replaced and not looked into.
        """
        staged: list[tuple[str, str]] = []
        with explained(f"write to {self.path} (as root: sudo)"):
            try:
                for name, content in contents.items():
                    self._remove_leftovers(name)
                    part = f".{name}.{secrets.token_hex(8)}.part"
                    descriptor = os.open(part, _CREATE, 0o600, dir_fd=self._descriptor)
                    staged.append((part, name))
                    with os.fdopen(descriptor, "wb") as file:
                        file.write(content)
                        file.flush()
                        if rights is not None:
                            os.fchown(descriptor, rights.user, rights.group)
                        os.fchmod(descriptor, mode if rights is None else rights.file)
                        os.fsync(descriptor)
                while staged:
                    part, name = staged[0]
                    os.rename(part, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
                    staged.pop(0)
                os.fsync(self._descriptor)
            finally:
                for part, _ in staged:
                    with suppress(FileNotFoundError):
                        os.unlink(part, dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, or the link that has its name, if there is any."""
        with explained(f"remove {self.path / name}"), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def remove_directory(self, name: str) -> None:
        """Remove an empty directory in this one."""
        with explained(f"remove {self.path / name}"):
            os.rmdir(name, dir_fd=self._descriptor)

    def _open(self, name: str, flags: int) -> int | None:
        with explained(f"open {self.path / name} (as root: sudo)"):
            try:
                return os.open(name, flags, dir_fd=self._descriptor)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno not in _NOT_WHAT_IT_SEEMS:
                    raise
                what = _NOT_WHAT_IT_SEEMS[error.errno]
                raise FatalError(self._strange(name, what)) from error

    def _strange(self, name: str, what: str) -> str:
        return (
            f"{self.path / name} {what}, and not of our making: find out who put it there, remove "
            f"it, and run this again"
        )

    def _remove_leftovers(self, name: str) -> None:
        """Remove what was left half written: it may hold a private key."""
        for one in os.listdir(self._descriptor):  # noqa: PTH208  (of no path)
            if one.startswith(f".{name}.") and one.endswith(".part"):
                with suppress(FileNotFoundError):  # another process may be faster
                    status = os.stat(one, dir_fd=self._descriptor, follow_symlinks=False)
                    if status.st_mtime < time.time() - _ABANDONED_S:
                        os.unlink(one, dir_fd=self._descriptor)


@dataclass(frozen=True)
class Opened:
    """The directories of a system with our files, open; `folder` is None where it is not made yet,
    `service` where we are not root and have nothing to give. Every method raises FatalError.
    """

    etc: Folder
    included: Folder
    folder: Folder | None
    service: Service | None

    def read(self, path: Path) -> bytes | None:
        """Return a file's content, None if there is none."""
        if self._is_included(path):
            return self.included.read(path.name)
        return None if self.folder is None else self.folder.read(path.name, self.service)

    def holds(self) -> bool:
        """Return True if our folder is there, and ours to hold."""
        if self.folder is None:
            return False
        return self.service is None or self.folder.has(self.service.rights)

    def differing(self, planned: Mapping[Path, bytes]) -> dict[Path, bytes]:
        """Return those files that are not on disk as planned."""
        return {
            path: content
            for path, content in planned.items()
            if self.read(path) != content or not self._lies(path)
        }

    def take_over(self) -> None:
        """Make our folder root's."""
        if self.service is not None and self.folder is not None:
            self.folder.take_over(self.service.rights)

    def write(self, contents: Mapping[Path, bytes]) -> None:
        """Write files."""
        included = {path.name: text for path, text in contents.items() if self._is_included(path)}
        ours = {path.name: text for path, text in contents.items() if not self._is_included(path)}
        if self.folder is not None:
            rights = None if self.service is None else self.service.rights
            self.folder.write(ours, OWNER_ONLY, rights)
        self.included.write(included, READABLE, None)

    def put_back(self, before: Mapping[Path, bytes | None]) -> None:
        """Write files as they were, and remove those that were none."""
        self.write({path: content for path, content in before.items() if content is not None})
        for path, content in before.items():
            folder = self.included if self._is_included(path) else self.folder
            if content is None and folder is not None:
                folder.remove(path.name)

    def _is_included(self, path: Path) -> bool:
        return path.parent == self.included.path

    def _lies(self, path: Path) -> bool:
        if self.service is None or self.folder is None or self._is_included(path):
            return True
        return self.folder.lies(path.name, self.service.rights)
