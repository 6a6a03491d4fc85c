"""Putting the broker into a system's own Mosquitto, which starts it at boot under a user of its
own.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from securemqtt.platform import escaped
from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.answer import await_answer, await_end, visit
from securemqtt_tools.broker.mosquitto.eviction import MOST, fits
from securemqtt_tools.broker.mosquitto.folder import Folder, Opened, Service
from securemqtt_tools.broker.mosquitto.live import Reload, Watching
from securemqtt_tools.broker.mosquitto.program import (
    REWORKED_SINCE,
    Door,
    Places,
    Program,
    render,
)
from securemqtt_tools.broker.mosquitto.restart import run, systemd_runs
from securemqtt_tools.broker.mosquitto.trial import try_out
from securemqtt_tools.broker.privileges import check_only_roots
from securemqtt_tools.broker.revocations import newly_revoked
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained

SERVICE_USER = "mosquitto"  # unless its configuration says another one
MAIN = "mosquitto.conf"
_FOLDER = "securemqtt"
_NAME = "securemqtt.conf"
_INCLUDED = "conf.d"
_DATA = Path("/var/lib/mosquitto")
_SOCKET = "securemqtt.socket"
# What a running Mosquitto takes up when it is told to; a file of trust it does not (2.0).
_TAKEN_UP = frozenset({files.CRL, files.SERVER, files.ACL, files.PASSWORDS})
# secret, or of no use to a reader
_NOT_SHOWN = frozenset({files.CA, files.WEBSOCKETS_CA, files.CRL, files.SERVER, files.PASSWORDS})
# those that are in use
_DEPLOYED = (files.CA, files.WEBSOCKETS_CA, files.CRL, files.SERVER, files.ACL, files.PASSWORDS)
# who may do what with what is installed; {} is the user that Mosquitto runs as
_OURS = "root's alone to change, for {} to read"
_LOG = "/var/log/mosquitto/mosquitto.log"  # Debian's
# Lies beside the files from before they are written until Mosquitto has taken them up.
_UNFINISHED = "unfinished"
_INTERRUPTED = "an earlier installation was cut short before Mosquitto had taken it up"


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

    @property
    def _unfinished(self) -> Path:
        return self._folder / _UNFINISHED

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
        socket = self._socket(others)
        # Whom that listener trusts lies there only while somebody is put out (live.py).
        door = None if socket is None else Door(socket, f"capath {self._folder}")
        located = _last("persistence_location", {main: others[main]}) is not None
        places = Places(self._folder, None if located else _DATA, None, None, door)
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
            if opened.read(self._unfinished) is not None:
                lines.append(f"{_INTERRUPTED}: {self._unfinished}")
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

    def reload(self, command: list[str] | None) -> Reload | str:
        """Return how the running Mosquitto takes up the changes, told so by `command`, while the
        others stay connected; or why it has to be restarted instead. Raise FatalError.
        """
        planned, others = self.planned(), self._others()
        with self._opened() as opened:
            changes = opened.differing(planned)
            before = {path: opened.read(path) for path in (*changes, self.crl)}
            ours = opened.holds()
            unfinished = opened.read(self._unfinished) is not None
        if unfinished:
            return _INTERRUPTED
        if not ours or None in before.values() or {one.name for one in changes} - _TAKEN_UP:
            return "this is more than it takes up while it runs"
        if command is None:
            return "no command is known that has it read its files anew (--reload COMMAND)"
        websockets = self.config.websockets_port is not None or any(
            words[:2] == ["protocol", "websockets"]
            for content in others.values()
            for words in _words(content)
        )
        if websockets and self.program.version < REWORKED_SINCE:
            return f"Mosquitto {self.program.version_text} cannot reload a port for WebSockets"
        socket, log = self._socket(others), self._log(others)
        if log is None:
            return "it writes no log file, where one could see what it has taken up"
        try:
            old = x509.load_pem_x509_crl(before[self.crl] or b"")
        except ValueError:
            return f"{self.crl} is damaged"
        most = MOST if socket is not None else 0
        gone = newly_revoked(self.config.directory, self.config.crl(), old, most)
        if gone is None:
            return "who was revoked cannot be put out one by one"
        found = Reload(command, frozenset(gone), socket, log, self.program.version)
        return found.hindrance(self.config) or found

    def apply(
        self,
        restart: list[str],
        reload: Reload | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Watching | None:
        """Write the files and have Mosquitto take them up, by `reload` or else, and where that
        fails, by a restart. Where it does not come up with them, put everything back as it was, as
        when interrupted. What was the service's own is root's from then on, also then.

        Return the watch that keeps out who was revoked, if somebody has to be. Raise FatalError.
        """
        planned = self.planned()
        if reload is not None and self.reload(reload.command) != reload:
            raise FatalError("the broker's files have changed meanwhile: run this again")
        look = f"look into {self._logs()}"
        with self._opened() as opened:
            new_folder = opened.etc.make(_FOLDER)
        with self._opened() as opened:
            opened.take_over()
            changes = opened.differing(planned)
            before = {path: opened.read(path) for path in (self._unfinished, *changes)}
            try:
                opened.write({self._unfinished: f"{_INTERRUPTED}\n".encode()})
                opened.write(changes)
                if reload is not None:
                    try:
                        watching = reload.run(self.config, self._trusted, self.answer_s)
                        await_answer(self.config, self.answer_s)
                    except FatalError as error:
                        say(f"{error}: Mosquitto is restarted instead")
                    else:
                        opened.put_back({self._unfinished: None})
                        return watching
                self.restart(restart)
                opened.put_back({self._unfinished: None})
            except (FatalError, KeyboardInterrupt) as error:
                opened.put_back(before)
                if new_folder:
                    opened.etc.remove_directory(_FOLDER)
                if not isinstance(error, FatalError):
                    raise
                try:
                    run(restart)
                except FatalError as second:
                    raise FatalError(
                        f"{error}; the previous configuration is back, but: {second}; {look}"
                    ) from second
                raise FatalError(f"{error}; the previous configuration is back; {look}") from error
        return None

    def restart(self, command: list[str]) -> None:
        """Restart Mosquitto and wait until it answers. Raise FatalError."""
        with visit(self.config, self.answer_s) as earlier:
            run(command)
            await_end(self.config, earlier)
        await_answer(self.config, self.answer_s)

    @contextmanager
    def _trusted(self, name: str, content: bytes) -> Iterator[None]:
        """Have a file lie in our folder for a while. Raise FatalError."""
        path = self._folder / name
        with self._opened() as opened:
            try:
                opened.write({path: content})
                yield
            finally:
                opened.put_back({path: None})

    def _socket(self, others: Mapping[Path, bytes]) -> Path | None:
        """Return where the listener is by which devices are put out: where Mosquitto has its data,
        since it can make it there; None if it cannot.
        """
        # With passwords a certificate may have served under another one's name.
        if self.config.passwords:
            return None
        data = Path(_last("persistence_location", others) or _DATA)
        if not data.is_absolute() or not fits(data / _SOCKET):
            return None
        service = _service(others)
        with explained(f"look at {data} (as root: sudo)"):
            made = data.is_dir() and (service is None or service.user in (0, data.stat().st_uid))
        return data / _SOCKET if made else None

    def _log(self, others: Mapping[Path, bytes]) -> Path | None:
        """Return the file that Mosquitto logs to, if it does."""
        found = [
            Path(words[2])
            for content in others.values()
            for words in _words(content)
            if words[:2] == ["log_dest", "file"] and len(words) == 3
        ]
        return found[-1] if found else None

    def _logs(self) -> str:
        """Return where this system's Mosquitto says why it did not start."""
        written = self._log(self._others())
        journal = ["the journal (journalctl -u mosquitto)"] if systemd_runs() else []
        return " and ".join([*journal, *([str(written)] if written else [])] or [_LOG])

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
    def _opened(self) -> Iterator[Opened]:
        """Open the directories that have our files. Raise FatalError."""
        service = _service(self._others())
        with (
            Folder.at(self.etc) as etc,
            etc.inside(_INCLUDED) as included,
            etc.inside(_FOLDER) as folder,
        ):
            if included is None:
                raise FatalError(f"{self.etc / _INCLUDED} is missing: make this directory")
            yield Opened(etc, included, folder, service)


def _service(configuration: Mapping[Path, bytes]) -> Service | None:
    """Return whom Mosquitto will run as, if that is not for us to decide. Raise FatalError."""
    if os.geteuid() != 0:
        return None
    return Service.named(_last("user", configuration) or SERVICE_USER)


def _last(option: str, configuration: Mapping[Path, bytes]) -> str | None:
    """Return what an option is set to, which is what comes last."""
    found = [
        " ".join(words[1:])
        for content in configuration.values()
        for words in _words(content)
        if words[0] == option and len(words) > 1
    ]
    return found[-1] if found else None


def _words(content: bytes) -> Iterator[list[str]]:
    for line in content.decode(errors="replace").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words
