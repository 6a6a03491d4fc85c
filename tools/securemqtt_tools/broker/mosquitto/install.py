"""Putting the broker into a system's own Mosquitto, which starts it at boot under a user of its
own.
"""

from __future__ import annotations

import difflib
import os
import pwd
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.program import Places, Program, render
from securemqtt_tools.broker.mosquitto.trial import try_out
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import OWNER_ONLY, READABLE, explained, write_file

SERVICE_USER = "mosquitto"
MAIN = "mosquitto.conf"
_FOLDER = "securemqtt"
_NAME = "securemqtt.conf"
_INCLUDED = "conf.d"
_DATA = Path("/var/lib/mosquitto")
# secret, or of no use to a reader
_NOT_SHOWN = frozenset({files.CA, files.WEBSOCKETS_CA, files.CRL, files.SERVER, files.PASSWORDS})
# those that are in use
_DEPLOYED = (files.CA, files.WEBSOCKETS_CA, files.CRL, files.SERVER, files.ACL, files.PASSWORDS)
_POLL_S = 0.05


@dataclass(frozen=True)
class Installation:
    """A broker's files as they should be below a system's configuration directory `etc`."""

    config: BrokerConfig
    program: Program
    etc: Path
    answer_s: float = 20.0  # how long Mosquitto may take after its restart until it answers

    @property
    def _folder(self) -> Path:
        return self.etc / _FOLDER

    def planned(self) -> dict[Path, bytes]:
        """Return each file with the content that it should have.

        Raise FatalError when that cannot work.
        """
        main = _read(self.etc / MAIN)
        if main is None:
            raise FatalError(
                f"{self.etc / MAIN} is missing: install Mosquitto, or say where its configuration "
                f"is with --etc"
            )
        included = self.etc / _INCLUDED
        if not any(words == ["include_dir", str(included)] for words in _words(main)):
            raise FatalError(
                f"{self.etc / MAIN} does not read {included}: add the line include_dir {included}"
            )
        for path in self._others():
            for words in _words(_read(path) or b""):
                if words[0] == "per_listener_settings" and words[1:] != ["false"]:
                    raise FatalError(
                        f"{path} says per_listener_settings, with which our rules would not hold "
                        f"on our listener (every device could read all others), and Mosquitto "
                        f"2.0.12 to 2.0.22 lose messages: take that line out"
                    )
        if 0 in (self.config.port, self.config.websockets_port):
            raise FatalError(
                "a broker for a system needs fixed ports: run securemqtt broker init --force "
                "--port 8883"
            )
        data = None if any(words[0] == "persistence_location" for words in _words(main)) else _DATA
        text = render(self.config, Places(self._folder, data, None, None), self.program.version)
        found = {included / _NAME: text.encode()}
        for name in _DEPLOYED:
            if not any(line.endswith(f" {self._folder / name}") for line in text.splitlines()):
                continue
            with explained(f"read {self.config.directory / name}"):
                found[self._folder / name] = (self.config.directory / name).read_bytes()
        return found

    def changes(self) -> dict[Path, bytes]:
        """Return those of the planned files that are not on disk as planned."""
        return {path: content for path, content in self.planned().items() if _read(path) != content}

    def describe(self) -> list[str]:
        """Say what would change, as a unified diff; of keys, certificates and passwords only that
        they change.
        """
        lines: list[str] = []
        for path, content in self.changes().items():
            old = _read(path)
            if path.name in _NOT_SHOWN:
                lines.append(f"{'new' if old is None else 'changed'}: {path}")
                continue
            before = (old or b"").decode(errors="replace").splitlines()
            origin = "/dev/null" if old is None else str(path)
            lines += difflib.unified_diff(
                before, content.decode().splitlines(), origin, str(path), lineterm=""
            )
        return lines

    def listeners_in_clear(self) -> list[str]:
        """Return the listeners of the system's other configuration that have no certificate, each
        as `file: line`.
        """
        found: list[str] = []
        for path in self._others():
            open_listener = ""
            for words in _words(_read(path) or b""):
                if words[0] in ("listener", "port"):
                    found += [open_listener] if open_listener else []
                    open_listener = f"{path}: {' '.join(words)}"
                elif words[0] == "certfile":
                    open_listener = ""
            found += [open_listener] if open_listener else []
        return found

    def try_out(self) -> None:
        """Start Mosquitto with the whole configuration as it would be, but on other ports and with
        other data.

        Mosquitto's own --test-config (2.1) is not used: it overwrites the saved sessions with none,
        and looks at no certificate. Takes at most 20 s, longer only where another program takes one
        of the ports. Raise FatalError with what Mosquitto says.
        """
        planned = self.planned()
        texts = [(_read(path) or b"").decode(errors="replace") for path in self._others()]
        own = planned[self.etc / _INCLUDED / _NAME].decode()
        try_out(
            self.program,
            [*texts, own],
            self._folder,
            {path.name: content for path, content in planned.items()},
        )

    def apply(self, restart: list[str]) -> None:
        """Write the files and restart Mosquitto; where it does not come up with them, put
        everything back as it was.

        Raise FatalError.
        """
        changes = self.changes()
        before = {path: _read(path) for path in changes}
        new_folder = not self._folder.exists()
        try:
            with self._visit() as earlier:
                self._write(changes)
                _run(restart)
                self._await_end(earlier)
            self._await_answer()
        except FatalError as error:
            for path, content in before.items():
                if content is None:
                    path.unlink(missing_ok=True)
            if new_folder:
                self._folder.rmdir()
            else:
                self._write(
                    {path: content for path, content in before.items() if content is not None}
                )
            try:
                _run(restart)
            except FatalError as second:
                raise FatalError(
                    f"{error}; the previous configuration is back, but: {second}"
                ) from second
            raise FatalError(f"{error}; the previous configuration is back") from error

    def _others(self) -> list[Path]:
        included = sorted((self.etc / _INCLUDED).glob("*.conf"))
        return [self.etc / MAIN, *(path for path in included if path.name != _NAME)]

    def _write(self, contents: dict[Path, bytes]) -> None:
        owner = _service_owner()
        with explained(f"write to {self.etc} (as root: sudo)"):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if owner:
                os.chown(self._folder, *owner)
        for path, content in contents.items():
            own = path.parent == self._folder
            write_file(path, content, OWNER_ONLY if own else READABLE)
            if own and owner:
                with explained(f"give {path} to the user {SERVICE_USER}"):
                    os.chown(path, *owner)

    @property
    def _host(self) -> str:
        return self.config.bind if self.config.bind not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104

    @contextmanager
    def _visit(self) -> Iterator[socket.socket | None]:
        """Hold a connection to what listens on our port by now, if anything does."""
        try:
            visit = socket.create_connection((self._host, self.config.port), self.answer_s)
        except OSError:
            yield None
            return
        with visit:
            yield visit

    def _await_end(self, visit: socket.socket | None) -> None:
        """Wait until what held our port has gone: else it answers on, knows nothing of the new
        files, and seems to be the new one.
        """
        if visit is None:
            return
        try:
            visit.recv(1)
        except TimeoutError as error:
            raise FatalError(
                f"the restart left port {self.config.port} to another process: is a second "
                f"Mosquitto running?"
            ) from error
        except OSError:
            return  # a reset is an end, too

    def _await_answer(self) -> None:
        """Wait until our own certificate answers on our port."""
        context = ssl.create_default_context(cafile=str(self.config.server_trust()))
        own = self.config.server_certificate().public_bytes(Encoding.DER)
        deadline = time.monotonic() + self.answer_s
        while True:
            try:
                with (
                    socket.create_connection(
                        (self._host, self.config.port), self.answer_s
                    ) as plain,
                    context.wrap_socket(plain, server_hostname=self.config.names[0]) as tls,
                ):
                    if tls.getpeercert(binary_form=True) == own:
                        return
                problem = "another certificate answers"
            except OSError as error:
                problem = str(error)
            if time.monotonic() > deadline:
                raise FatalError(
                    f"Mosquitto does not answer on port {self.config.port} as it should: {problem}"
                )
            time.sleep(_POLL_S)


def restart_command() -> list[str]:
    """Return the command that restarts this system's Mosquitto.

    Raise FatalError when it is not known.
    """
    if Path("/run/systemd/system").is_dir():
        return ["systemctl", "restart", "mosquitto"]
    if shutil.which("service"):
        return ["service", "mosquitto", "restart"]
    raise FatalError(
        "it is not known how this system restarts Mosquitto: say it with --restart COMMAND"
    )


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FatalError(f"{shlex.join(command)} failed: {error}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or [
            f"exit status {done.returncode}"
        ]
        raise FatalError(f"{shlex.join(command)} failed: {words[-1]}")


def _service_owner() -> tuple[int, int] | None:
    """Return user and group of the service, if we may give files away and it has any."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None
    return user.pw_uid, user.pw_gid


def _words(content: bytes) -> Iterator[list[str]]:
    for line in content.decode(errors="replace").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words


def _read(path: Path) -> bytes | None:
    if not path.exists():
        return None
    with explained(f"read {path} (as root: sudo)"):
        return path.read_bytes()
