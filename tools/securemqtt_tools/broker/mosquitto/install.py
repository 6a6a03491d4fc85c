"""Putting the broker into a system's own Mosquitto, which starts it at boot under a user of its
own.
"""

from __future__ import annotations

import difflib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt.platform import escaped
from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.folder import Folder, Service
from securemqtt_tools.broker.mosquitto.program import Places, Program, render
from securemqtt_tools.broker.mosquitto.restart import run, systemd_runs
from securemqtt_tools.broker.mosquitto.trial import try_out
from securemqtt_tools.broker.privileges import check_only_roots
from securemqtt_tools.broker.trust import device_context
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import OWNER_ONLY, READABLE, explained

SERVICE_USER = "mosquitto"  # unless its configuration says another one
MAIN = "mosquitto.conf"
_FOLDER = "securemqtt"
_NAME = "securemqtt.conf"
_INCLUDED = "conf.d"
_DATA = Path("/var/lib/mosquitto")
# secret, or of no use to a reader
_NOT_SHOWN = frozenset({files.CA, files.WEBSOCKETS_CA, files.CRL, files.SERVER, files.PASSWORDS})
# those that are in use
_DEPLOYED = (files.CA, files.WEBSOCKETS_CA, files.CRL, files.SERVER, files.ACL, files.PASSWORDS)
# who may do what with what is installed; {} is the user that Mosquitto runs as
_OURS = "root's alone to change, for {} to read"
_POLL_S = 0.05
_LOG = "/var/log/mosquitto/mosquitto.log"  # Debian's


@dataclass(frozen=True)
class Installation:
    """A broker's files as they should be below a system's configuration directory `etc`.

    Written by root, they are root's, and the user that Mosquitto runs as may read them: who takes
    over the broker changes no rule, and cannot turn this program against root.
    """

    config: BrokerConfig
    program: Program
    etc: Path
    answer_s: float = 20.0  # how long Mosquitto may take after its restart until it answers

    @property
    def _folder(self) -> Path:
        return self.etc / _FOLDER

    @property
    def crl(self) -> Path:
        """The CRL that Mosquitto reads, if it is installed."""
        return self._folder / files.CRL

    def planned(self) -> dict[Path, bytes]:
        """Return each file with the content that it should have.

        Raise FatalError when that cannot work.
        """
        others = self._others()
        main, included = self.etc / MAIN, self.etc / _INCLUDED
        if not any(words == ["include_dir", str(included)] for words in _words(others[main])):
            raise FatalError(
                f"{main} does not read {included}: add the line include_dir {included}"
            )
        for path, content in others.items():
            for words in _words(content):
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
        located = any(words[0] == "persistence_location" for words in _words(others[main]))
        places = Places(self._folder, None if located else _DATA, None, None)
        text = render(self.config, places, self.program.version)
        found = {included / _NAME: text.encode()}
        with Folder.at(self.config.directory) as source:
            for name in _DEPLOYED:
                if not any(line.endswith(f" {self._folder / name}") for line in text.splitlines()):
                    continue
                saved = source.read(name)
                if saved is None:
                    raise FatalError(
                        f"{self.config.directory / name} is missing: run securemqtt broker reload"
                    )
                found[self._folder / name] = saved
        return found

    def changes(self) -> dict[Path, bytes]:
        """Return those of the planned files that are not on disk as planned: another content, or
        not root's. Raise FatalError.
        """
        planned = self.planned()
        with self._opened() as opened:
            return opened.differing(planned)

    def describe(self) -> list[str]:
        """Say what would change, as a unified diff; of keys, certificates and passwords only that
        they change. Raise FatalError.
        """
        lines: list[str] = []
        planned = self.planned()
        with self._opened() as opened:
            service = opened.service
            if service and opened.folder and not opened.folder.has(service.rights):
                lines.append(f"changed: {self._folder}: {_OURS.format(service.name)}")
            for path, content in opened.differing(planned).items():
                old = opened.read(path)
                if old == content and service:
                    lines.append(f"changed: {path}: {_OURS.format(service.name)}")
                    continue
                if path.name in _NOT_SHOWN:
                    lines.append(f"{'new' if old is None else 'changed'}: {path}")
                    continue
                before = (old or b"").decode(errors="replace").splitlines()
                origin = "/dev/null" if old is None else str(path)
                new = content.decode().splitlines()
                diff = difflib.unified_diff(before, new, origin, str(path), lineterm="")
                lines += map(escaped, diff)  # the old one may be anybody's
        return lines

    def listeners_in_clear(self) -> list[str]:
        """Return the listeners of the system's other configuration that have no certificate, each
        as `file: line`. Raise FatalError.
        """
        found: list[str] = []
        for path, content in self._others().items():
            open_listener = ""
            for words in _words(content):
                if words[0] in ("listener", "port"):
                    found += [open_listener] if open_listener else []
                    open_listener = f"{path}: {' '.join(words)}"
                elif words[0] == "certfile":
                    open_listener = ""
            found += [open_listener] if open_listener else []
        return found

    def try_out(self) -> None:
        """Start Mosquitto with the whole configuration as it would be, but on other ports and with
        other data; as the user that it will run as.

        Mosquitto's own --test-config (2.1) is not used: it overwrites the saved sessions with none,
        and looks at no certificate. Takes at most 20 s, longer only where another program takes one
        of the ports. Raise FatalError with what Mosquitto says.
        """
        planned = self.planned()
        others = self._others()
        texts = [content.decode(errors="replace") for content in others.values()]
        own = planned[self.etc / _INCLUDED / _NAME].decode()
        try_out(
            self.program,
            [*texts, own],
            self._folder,
            {path.name: content for path, content in planned.items()},
            _service(others),
        )

    def apply(self, restart: list[str]) -> None:
        """Write the files and restart Mosquitto; where it does not come up with them, put
        everything back as it was. What was the service's own is root's from then on, also then.

        Raise FatalError.
        """
        planned = self.planned()
        with self._opened() as opened:
            new_folder = opened.etc.make(_FOLDER)
        with self._opened() as opened:
            opened.take_over()
            changes = opened.differing(planned)
            before = {path: opened.read(path) for path in changes}
            try:
                with self._visit() as earlier:
                    opened.write(changes)
                    run(restart)
                    self._await_end(earlier)
                self._await_answer()
            except FatalError as error:
                opened.put_back(before)
                look = f"look into {self._logs()}"
                if new_folder:
                    opened.etc.remove_directory(_FOLDER)
                try:
                    run(restart)
                except FatalError as second:
                    raise FatalError(
                        f"{error}; the previous configuration is back, but: {second}; {look}"
                    ) from second
                raise FatalError(f"{error}; the previous configuration is back; {look}") from error

    def _logs(self) -> str:
        """Return where this system's Mosquitto says why it did not start."""
        written = [
            words[2]
            for content in self._others().values()
            for words in _words(content)
            if words[:2] == ["log_dest", "file"] and len(words) > 2
        ]
        journal = ["the journal (journalctl -u mosquitto)"] if systemd_runs() else []
        return " and ".join([*journal, *written] or [_LOG])

    def _others(self) -> dict[Path, bytes]:
        """Read the system's own configuration, Mosquitto's main file first. Raise FatalError."""
        main = self.etc / MAIN
        if not main.exists():
            raise FatalError(
                f"{main} is missing: install Mosquitto, or say where its configuration is with "
                f"--etc"
            )
        included = self.etc / _INCLUDED
        files = sorted(one for one in included.glob("*.conf") if one.name != _NAME)
        if os.geteuid() == 0:
            for path in (self.etc, main, *([included] if included.exists() else []), *files):
                check_only_roots(path)
        found = {}
        for path in (main, *files):
            with explained(f"read {path} (as root: sudo)"):
                found[path] = path.read_bytes()
        return found

    @contextmanager
    def _opened(self) -> Iterator[_Opened]:
        """Open the directories that have our files. Raise FatalError."""
        service = _service(self._others())
        with (
            Folder.at(self.etc) as etc,
            etc.inside(_INCLUDED) as included,
            etc.inside(_FOLDER) as folder,
        ):
            if included is None:
                raise FatalError(f"{self.etc / _INCLUDED} is missing: make this directory")
            yield _Opened(etc, included, folder, service)

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
        context = device_context(self.config.server_trust())
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


@dataclass(frozen=True)
class _Opened:
    """The directories with our files, open; `folder` is None where it is not made yet, `service`
    where we are not root and have nothing to give.
    """

    etc: Folder
    included: Folder
    folder: Folder | None
    service: Service | None

    def read(self, path: Path) -> bytes | None:
        if self._is_included(path):
            return self.included.read(path.name)
        return None if self.folder is None else self.folder.read(path.name, self.service)

    def differing(self, planned: Mapping[Path, bytes]) -> dict[Path, bytes]:
        return {
            path: content
            for path, content in planned.items()
            if self.read(path) != content or not self._lies(path)
        }

    def take_over(self) -> None:
        if self.service is not None and self.folder is not None:
            self.folder.take_over(self.service.rights)

    def write(self, contents: Mapping[Path, bytes]) -> None:
        included = {path.name: text for path, text in contents.items() if self._is_included(path)}
        ours = {path.name: text for path, text in contents.items() if not self._is_included(path)}
        if self.folder is not None:
            rights = None if self.service is None else self.service.rights
            self.folder.write(ours, OWNER_ONLY, rights)
        self.included.write(included, READABLE, None)

    def put_back(self, before: Mapping[Path, bytes | None]) -> None:
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


def _service(configuration: Mapping[Path, bytes]) -> Service | None:
    """Return whom Mosquitto will run as, if that is not for us to decide. Raise FatalError."""
    if os.geteuid() != 0:
        return None
    users = [
        words[1]
        for content in configuration.values()
        for words in _words(content)
        if words[0] == "user" and len(words) > 1
    ]
    return Service.named(users[-1] if users else SERVICE_USER)


def _words(content: bytes) -> Iterator[list[str]]:
    for line in content.decode(errors="replace").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words
