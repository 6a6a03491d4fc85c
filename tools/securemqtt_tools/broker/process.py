"""A broker as a child process: started and listening, stopped, killed, reloaded, restarted on the
same port.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.child import ANSWER_S, Child
from securemqtt_tools.broker.children import last_words
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.embedded.engine import Embedded
from securemqtt_tools.broker.engine import Engine, Standing
from securemqtt_tools.broker.mosquitto.engine import Mosquitto
from securemqtt_tools.broker.mosquitto.program import Program, find_mosquitto
from securemqtt_tools.broker.ports import PORT_ATTEMPTS, free_port, port_was_taken
from securemqtt_tools.broker.revocations import check_kept, keep_newest
from securemqtt_tools.cli import FatalError

AUTO = "auto"
MOSQUITTO = Mosquitto.name
AMQTT = Embedded.name
ENGINES = (AUTO, MOSQUITTO, AMQTT)


class BrokerProcess:
    """The broker that a directory describes, as a child process. An object belongs to one thread at
    a time.

    The child ends with this process at the latest, also when this process is killed.
    """

    def __init__(self, directory: Path, engine: str = AUTO) -> None:
        self.directory = directory
        self.config = BrokerConfig.open(directory)
        self._engine = _choose(engine)
        self._child = Child(directory / files.LOG)
        self._standing: Standing | None = None  # that it has read

    def __enter__(self) -> BrokerProcess:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def engine(self) -> str:
        """Which broker it is, one of ENGINES."""
        return self._engine.name

    @property
    def program(self) -> Program | None:
        """The Mosquitto that it is, if it is one."""
        return self._engine.program if isinstance(self._engine, Mosquitto) else None

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
        return self._child.log

    @property
    def running(self) -> bool:
        """Return True if the process is there."""
        return self._child.running

    @property
    def pid(self) -> int | None:
        """The process id, if it is running."""
        return self._child.pid

    def start(self, timeout_s: float = ANSWER_S) -> None:
        """Start the broker and wait until it listens, at most `timeout_s`. Nothing happens when it
        runs already.

        Raise FatalError with the broker's own last words when it does not start, and where the CRL
        is older than what this object's broker has read before.
        """
        if self.running:
            return
        self.keep_newest()
        check_kept(self.directory)
        settings = BrokerConfig.open(self.directory)
        chosen = 0 in (settings.port, settings.websockets_port)
        for attempt in range(PORT_ATTEMPTS):
            self.config = _with_free_ports(settings) if chosen else settings
            if self._started(timeout_s):
                return
            said = self._child.words()
            if not chosen or not port_was_taken(said) or attempt == PORT_ATTEMPTS - 1:
                settings.save()
                raise FatalError(f"the broker does not start: {last_words(said)} (see {self.log})")

    def stop(self) -> None:
        """End the broker in order: it saves its sessions. After 15 s it is killed."""
        self._child.stop()

    def kill(self) -> None:
        """End the broker at once, as a crash would: what it had not saved is lost."""
        self._child.kill()

    def restart(self) -> None:
        """Stop and start on the same port.

        Sessions and queued messages are kept (Mosquitto), connections are not. Raise FatalError as
        `start` does; where the CRL is the older one, the broker runs on.
        """
        self.keep_newest()
        check_kept(self.directory)
        self.stop()
        self.start()

    def reload(self) -> bool:
        """Make the broker take up changed rules, passwords, certificates and CRL; return True when
        that took a restart.

        Who was revoked since is put out, and all others stay connected; call `keep_out` from then
        on. It is restarted where that cannot be (see the engine's `take_up`), and for settings that
        it reads at its start alone. The sessions and queued messages outlast a restart, but every
        client has to connect again. Raise FatalError when it is not running, or does not come back,
        and where the CRL is older than what it has read.
        """
        if not self.running or self._standing is None:
            raise FatalError(f"the broker in {self.directory} is not running")
        self.keep_newest()
        check_kept(self.directory)
        # Read once: where the broker reads a newer one, the next reload puts that device out again.
        now = Standing.read(self.directory)
        if (
            _read_at_start(self.config) == _read_at_start(now.config)
            and self._child.writes_its_log
            and self._engine.take_up(self._child, self._standing, now)
        ):
            self.config, self._standing = now.config, now
            return False
        self.restart()
        return True

    def end_tls_sessions(self) -> bool:
        """Have the broker forget the TLS sessions that may be resumed: a client that resumes one
        shows no certificate, so that one which has expired would stay in. Connections stand.

        Return False where it would take a restart: see `reload`. Raise FatalError, also where it
        would read an older CRL than it has.
        """
        self.keep_newest()
        return not self.running or self._engine.end_tls_sessions(self._child)

    def keep_out(self) -> bool:
        """Put out who was revoked and comes in all the same, as one may who had shown its
        certificate before that; return True when that took a restart.

        To be called twice a second or so. Raise FatalError, also where it would take a restart, and
        the CRL is an older one: then the broker runs on, and nobody is looked for any more.
        """
        if not self.running or self._engine.keep_out(self._child):
            return False
        try:
            self.restart()
        except FatalError:
            if self.running:
                self._engine.let_go()
            raise
        return True

    def keep_newest(self) -> None:
        """Raise FatalError where the CRL in the directory is older than the one that the broker has
        read, or gone, since a backup was copied there. The newer one is put beside it, for `ca
        recover`.
        """
        if self._standing is not None:
            keep_newest(self.directory, self._standing.crl)

    def _started(self, timeout_s: float) -> bool:
        self._standing = Standing(self.config, self.config.crl())
        self._engine.prepare(self.config, self.log)
        self._child.start(
            self._engine.command(self.config),
            # So what it saves stays in this directory, wherever somebody moves that to.
            self.config.directory,
            self.config.limits.connections + 100,
        )
        return self._child.listens(self._engine.ready, timeout_s)


def _choose(name: str) -> Engine:
    if name not in ENGINES:
        raise FatalError(f"{name!r} is no broker: use one of {', '.join(ENGINES)}")
    program = None if name == AMQTT else find_mosquitto()
    if name == MOSQUITTO and program is None:
        raise FatalError(
            "Mosquitto is not installed: apt-get install mosquitto, or use --engine amqtt to try "
            "things out"
        )
    return Mosquitto(program) if program else Embedded()


def _read_at_start(config: BrokerConfig) -> BrokerConfig:
    """Return the settings without those that only say what is in the files that a broker reads
    again.
    """
    return replace(config, names=(), roles={}, certificate=None, key=None, certificate_days=0)


def _with_free_ports(config: BrokerConfig) -> BrokerConfig:
    port = config.port or free_port(config.bind)
    websockets_port = config.websockets_port
    while websockets_port == 0 or websockets_port == port:
        websockets_port = free_port(config.bind)
    return config.changed(port=port, websockets_port=websockets_port)
