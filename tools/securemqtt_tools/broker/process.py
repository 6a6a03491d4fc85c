"""A broker as a child process: started and listening, stopped, killed, reloaded, restarted on the
same port.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from cryptography import x509

import securemqtt_tools
from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.children import last_words, spawn
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.connections import ports_of
from securemqtt_tools.broker.mosquitto.eviction import MOST, Eviction, Watch
from securemqtt_tools.broker.mosquitto.log import Log
from securemqtt_tools.broker.mosquitto.program import (
    READY,
    REWORKED_SINCE,
    Places,
    Program,
    find_mosquitto,
    render,
)
from securemqtt_tools.broker.ports import PORT_ATTEMPTS, free_port, port_was_taken
from securemqtt_tools.broker.revocations import check_not_older, newly_revoked
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, write_file

AUTO = "auto"
MOSQUITTO = "mosquitto"
AMQTT = "amqtt"
ENGINES = (AUTO, MOSQUITTO, AMQTT)

CONFIGURATION = "mosquitto.conf"
_EVICTION = "eviction"
# Behind the time (and who says it), and nowhere else: a line may have what a client has chosen.
RELOADED = re.compile(rb"^(\S+: Reloading config|\S+ \S+ INFO \S+: Reloaded$)", re.MULTILINE)
_START_S = 30.0
_STOP_S = 15.0
_POLL_S = 0.01
_LOG_BYTES = 10 * 1024 * 1024


class BrokerProcess:
    """The broker that a directory describes, as a child process. An object belongs to one thread at
    a time.

    The child ends with this process at the latest, also when this process is killed.
    """

    def __init__(self, directory: Path, engine: str = AUTO) -> None:
        self.directory = directory
        self.config = BrokerConfig.open(directory)
        self.engine, self.program = _choose(engine)
        self._process: subprocess.Popen[bytes] | None = None
        self._crl: x509.CertificateRevocationList | None = None  # that it has read
        self._eviction: Eviction | None = None
        self._watch: Watch | None = None

    def __enter__(self) -> BrokerProcess:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port of the MQTT listener; known once the broker has started."""
        return self.config.port

    @property
    def websockets_port(self) -> int | None:
        """The port of the WebSockets listener, if there is one."""
        return self.config.websockets_port

    @property
    def log(self) -> Path:
        """The file with the broker's log."""
        return self.directory / files.LOG

    @property
    def running(self) -> bool:
        """Return True if the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id, if it is running."""
        return self._process.pid if self._process is not None and self.running else None

    def start(self, timeout_s: float = _START_S) -> None:
        """Start the broker and wait until it listens, at most `timeout_s`. Nothing happens when it
        runs already.

        Raise FatalError with the broker's own last words when it does not start, and where the CRL
        is older than what this object's broker has read before.
        """
        if self.running:
            return
        self.check_not_older()
        settings = BrokerConfig.open(self.directory)
        chosen = 0 in (settings.port, settings.websockets_port)
        for attempt in range(PORT_ATTEMPTS):
            self.config = _with_free_ports(settings) if chosen else settings
            if self._started(timeout_s):
                return
            if (
                not chosen
                or not port_was_taken(self._log_since(self._started_at))
                or attempt == PORT_ATTEMPTS - 1
            ):
                settings.save()
                raise FatalError(
                    f"the broker does not start: {last_words(self._log_since(self._started_at))} "
                    f"(see {self.log})"
                )

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """End the broker in order: it saves its sessions. After `timeout_s` it is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the broker at once, as a crash would: what it had not saved is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop and start on the same port.

        Sessions and queued messages are kept (Mosquitto), connections are not. Raise FatalError as
        `start` does; where the CRL is the older one, the broker runs on.
        """
        self.check_not_older()
        self.stop()
        self.start()

    def reload(self) -> bool:
        """Make the broker take up changed rules, passwords, certificates and CRL; return True when
        that took a restart.

        Mosquitto's live sessions outlast a new CRL, so those of the devices that were revoked since
        are ended one by one; call `keep_out` from then on. It is restarted where that cannot be:
        with WebSockets before 2.1, where a reload leaves that listener in ruins, where many were
        revoked, and for settings that it reads at its start alone. The sessions and queued messages
        outlast a restart, but every client has to connect again. Raise FatalError when it is not
        running, or does not come back, and where the CRL is older than what it has read.
        """
        if not self.running or self._process is None:
            raise FatalError(f"the broker in {self.directory} is not running")
        self.check_not_older()
        new = BrokerConfig.open(self.directory)
        # Read once: where the broker reads a newer one, the next reload puts that device out again.
        crl = new.crl()
        gone = self._to_be_put_out(new, crl)
        if gone is None or _read_at_start(self.config) != _read_at_start(new):
            self.restart()
            return True
        try:
            log = Log(self.log)
        except FatalError:  # somebody has moved it away, and Mosquitto writes on to where it is now
            self.restart()
            return True
        try:
            offset = self._read_anew()
        except FatalError:
            if self.running:  # it may have read them all the same, and only its log is silent
                self._put_out(gone)
            raise
        self.config, self._crl = new, crl
        if gone and self.program is not None:
            late = self._latecomers()
            if late is None:
                self.restart()
                return True
            gone |= late
            self._watch = self._watch or Watch(log, ports_of(new))
            self._watch.begin(gone, offset)
        return self._put_out(gone)

    def end_tls_sessions(self) -> bool:
        """Have Mosquitto forget the TLS sessions that may be resumed: a client that resumes one
        shows no certificate, so that one which has expired would stay in. Connections stand.

        Return False where it would take a restart: see `reload`. The embedded broker keeps none.
        Raise FatalError, also where it would read another CRL than it has.
        """
        if self._is_fragile:
            return False
        self.check_not_older()
        if self.program is not None and self.running:
            self._read_anew()
        return True

    def check_not_older(self) -> None:
        """Raise FatalError where the CRL in the directory is older than the one that the broker has
        read, since a backup was copied there. The newer one is put beside it, for `ca recover`.
        """
        if self._crl is not None:
            check_not_older(self.directory, self._crl)

    def keep_out(self) -> bool:
        """Put out who was revoked, had shown its certificate before that, and says CONNECT only
        now: Mosquitto lets it in. Return True when that took a restart.

        To be called twice a second or so; does nothing once all connections of before have ended,
        or after 100 s where the kernel does not tell. Raise FatalError.
        """
        if self._watch is None or not self.running:
            return False
        if self._watch.is_over() and not self._watch.prolong():
            self._watch = None
            return False
        late = self._latecomers()
        if late is None:
            self.restart()
            return True
        return self._put_out(late)

    def _latecomers(self) -> set[str] | None:
        """Return who has come in that is to be kept out; None if that cannot be seen any more,
        since the log was begun anew.
        """
        if self._watch is None:
            return set()
        try:
            return self._watch.entered()
        except FatalError:
            return None

    def _put_out(self, device_ids: Collection[str]) -> bool:
        if device_ids and self._eviction is not None:
            try:
                self._eviction.put_out(self.config, device_ids)
            except (OSError, FatalError):  # a restart does it, too
                self.restart()
                return True
        return False

    def _read_anew(self) -> int:
        """Have the broker read its files; return where its log says so. Raise FatalError."""
        offset = self._log_size()
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + _START_S
        while (reloaded := RELOADED.search(self._log_since(offset))) is None:
            if not self.running or time.monotonic() > deadline:
                raise FatalError(
                    f"the broker did not reload: {last_words(self._log_since(self._started_at))} "
                    f"(see {self.log})"
                )
            time.sleep(_POLL_S)
        return offset + reloaded.end()

    @property
    def _is_fragile(self) -> bool:
        """Whether a reload leaves a listener in ruins: that of WebSockets before 2.1."""
        if self.program is None or self.config.websockets_port is None:
            return False
        return self.program.version < REWORKED_SINCE

    def _to_be_put_out(
        self, config: BrokerConfig, crl: x509.CertificateRevocationList
    ) -> set[str] | None:
        """Return the devices that were revoked since the broker has read its CRL, None where it has
        to be restarted for them.
        """
        if self.program is None:  # the embedded broker does it by itself
            return set()
        if self._is_fragile:
            return None
        most = MOST if self._eviction is not None else 0
        before = crl if self._crl is None else self._crl  # one that lists nobody is false
        return newly_revoked(config.directory, crl, before, most)

    def _started(self, timeout_s: float) -> bool:
        self._watch = None
        self._eviction = self._new_eviction()
        self._write_configuration()
        self._rotate_log()
        self._crl = self.config.crl()
        self._started_at = self._log_size()
        with explained(f"start {self.engine}"):
            self._process = spawn(
                self._arguments(),
                self.log,
                _environment(),
                self.config.limits.connections + 100,
                # So what it saves stays in this directory, wherever somebody moves that to.
                directory=self.config.directory,
            )
        deadline = time.monotonic() + timeout_s
        while not READY.search(self._log_since(self._started_at)):
            if not self.running:
                return False
            if time.monotonic() > deadline:
                self.kill()
                raise FatalError(
                    f"the broker did not start within {timeout_s:.0f} s: see {self.log}"
                )
            time.sleep(_POLL_S)
        return True

    def _arguments(self) -> list[str]:
        if self.program is not None:
            return [str(self.program.path), "-c", str(self.config.directory / CONFIGURATION)]
        return [
            sys.executable,
            "-m",
            "securemqtt_tools.broker.embedded",
            str(self.config.directory),
        ]

    def _write_configuration(self) -> None:
        if self.program is None:
            return
        # Started by root, Mosquitto would become the user mosquitto and could read nothing of what
        # is ours.
        user = "root" if os.geteuid() == 0 else None
        places = Places(
            self.config.directory,
            Path(files.DATA),
            self.log.resolve(),
            user,
            self._eviction.door if self._eviction is not None else None,
        )
        text = render(self.config, places, self.program.version)
        write_file(self.directory / CONFIGURATION, text.encode())

    def _new_eviction(self) -> Eviction | None:
        directory = self.config.directory / _EVICTION
        # With passwords a certificate may have served under another one's name.
        if self.program is None or self.config.passwords or not Eviction.fits(directory):
            return None
        return Eviction(directory)

    def _rotate_log(self) -> None:
        if self._log_size() > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _log_since(self, offset: int) -> bytes:
        with explained(f"read {self.log}"), self.log.open("rb") as file:
            file.seek(offset)
            return file.read()


def _choose(engine: str) -> tuple[str, Program | None]:
    if engine not in ENGINES:
        raise FatalError(f"{engine!r} is no broker: use one of {', '.join(ENGINES)}")
    program = None if engine == AMQTT else find_mosquitto()
    if engine == MOSQUITTO and program is None:
        raise FatalError(
            "Mosquitto is not installed: apt-get install mosquitto, or use --engine amqtt to try "
            "things out"
        )
    return (MOSQUITTO if program else AMQTT), program


def _read_at_start(config: BrokerConfig) -> BrokerConfig:
    """Return the settings without those that only say what is in the files that a broker reads
    again.
    """
    return replace(config, names=(), roles={}, certificate=None, key=None, certificate_days=0)


def _environment() -> dict[str, str]:
    """Let the child find this package also where it is not installed but run from a checkout."""
    tools = str(Path(securemqtt_tools.__file__).parents[1])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{tools}{os.pathsep}{path}" if path else tools}


def _with_free_ports(config: BrokerConfig) -> BrokerConfig:
    port = config.port or free_port(config.bind)
    websockets_port = config.websockets_port
    while websockets_port == 0 or websockets_port == port:
        websockets_port = free_port(config.bind)
    return config.changed(port=port, websockets_port=websockets_port)
