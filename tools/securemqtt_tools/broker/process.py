"""A broker as a child process: started and listening, stopped, killed, reloaded, restarted on the
same port.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cryptography import x509

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.child import Child
from securemqtt_tools.broker.children import last_words
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.embedded.engine import Embedded
from securemqtt_tools.broker.engine import Engine, Standing
from securemqtt_tools.broker.hivemq.engine import HiveMQ
from securemqtt_tools.broker.hivemq.program import HOME, find_hivemq
from securemqtt_tools.broker.kinds import AMQTT, AUTO, HIVEMQ, MOSQUITTO, RABBITMQ
from securemqtt_tools.broker.memory import Memory
from securemqtt_tools.broker.mosquitto.engine import Mosquitto
from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from securemqtt_tools.broker.ports import PORT_ATTEMPTS, free_port, port_was_taken, taken_port
from securemqtt_tools.broker.rabbitmq.engine import RabbitMQ
from securemqtt_tools.broker.rabbitmq.program import find_rabbitmq
from securemqtt_tools.broker.revocations import check_crl
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import layout

# Beyond a file for each connection.
_OPEN_FILES = 1000


class BrokerProcess:
    """The broker that a directory describes, as a child process. An object belongs to one thread at
    a time.

    The child ends with this process at the latest, also when this process is killed.
    """

    def __init__(self, directory: Path, engine: str | None = None) -> None:
        """Take the kind of broker that is named, one of kinds.ENGINES, else the one that the
        settings have. Raise FatalError, also where that is not installed.
        """
        self.directory = directory
        self.config = BrokerConfig.open(directory)
        self._wanted = engine
        self._engine = engine_of(self.config, engine)
        self._child = Child(directory / files.LOG)
        self._standing: Standing | None = None  # that it has taken up
        self._memory = Memory()  # what it has read, or is about to
        self.is_kept = True
        """Whether what it has read lies in the directory, should an older CRL come there."""

    def __enter__(self) -> BrokerProcess:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def engine(self) -> str:
        """Which broker it is, one of kinds.ENGINES."""
        return self._engine.name

    @property
    def wanted(self) -> str | None:
        """Which broker it is whatever the settings say, one of kinds.ENGINES; None: as they say."""
        return self._wanted

    @property
    def title(self) -> str:
        """What people call it."""
        return self._engine.title

    @property
    def kept(self) -> str | None:
        """Where, below its directory, it keeps what waits for clients that are away."""
        return self._engine.kept

    @property
    def must_know_devices(self) -> bool:
        """Whether it lets in only devices that it has been told of."""
        return self._engine.must_know_devices

    def shortcomings(self) -> list[str]:
        """Return what it cannot do of what is asked for, a sentence each. Raise FatalError."""
        return self._engine.shortcomings(self.config)

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

    def start(self, timeout_s: float | None = None) -> None:
        """Start the broker and wait until it listens, at most `timeout_s`, or what this kind of
        broker may take: half a minute, or three for a large one, and ten more where it waits for
        the others of a cluster. Nothing happens when it runs already.

        Raise FatalError with the broker's own last words when it does not start, and where the CRL
        is older than what this object's broker has read before.
        """
        if self.running:
            return
        self._remember()
        settings = BrokerConfig.open(self.directory)
        # The settings may be for another one by now, and what is installed be another version.
        self._engine = engine_of(settings, self._wanted)
        chosen = 0 in (settings.port, settings.websockets_port)
        for attempt in range(PORT_ATTEMPTS):
            self.config = _with_free_ports(settings) if chosen else settings
            if self._started(self._engine.may_take_s(settings) if timeout_s is None else timeout_s):
                return
            said = self._child.words()
            ports = self.config.port, self.config.websockets_port
            taken = taken_port(self.config.bind, ports)
            is_late = taken is not None or port_was_taken(said)
            if not chosen or not is_late or attempt == PORT_ATTEMPTS - 1:
                settings.changed(port=settings.port, websockets_port=settings.websockets_port)
                why = last_words(said)
                if taken is not None:
                    option = "--port" if taken == self.config.port else "--websockets"
                    why = (
                        f"another program has port {taken} ({why}): end that one, or run "
                        f"securemqtt broker init --force with another {option}"
                    )
                raise FatalError(f"the broker does not start: {why} (see {self.log})")

    def stop(self) -> None:
        """End the broker in order: it saves its sessions. One that does not end is killed, after
        15 s, or 60 s for a large one.
        """
        self._child.stop(self._engine.stop_s)

    def kill(self) -> None:
        """End the broker at once, as a crash would: what it had not saved is lost."""
        self._child.kill()

    def restart(self) -> None:
        """Stop and start on the same port.

        Sessions and queued messages are kept (not by the embedded broker), connections are not.
        Raise FatalError as `start` does; where the CRL is the older one, the broker runs on, and so
        does it, or again, where the settings are for another one by now, which does not start.
        """
        self._remember()
        before, config = self._engine, self.config
        settings = BrokerConfig.open(self.directory)
        coming = engine_of(settings, self._wanted)
        is_another = coming.name != before.name
        if is_another:
            coming.prepare(settings, self.log)
        self.stop()
        try:
            self.start()
        except FatalError as error:
            if not is_another:
                raise
            self._engine, self.config = before, config
            if not self._started(before.may_take_s(config)):
                raise
            raise FatalError(f"{error}; {before.title} runs again, as before") from error

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
        self._remember()
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
        self._remember()
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
        """Raise FatalError where the CRL in the directory must not follow what the broker has read,
        or is gone, since a backup was copied there. What was read lies there in any case, for `ca
        recover`, or `is_kept` is False and it is tried again. Does nothing without a directory.
        """
        if not self._memory.crls or not self.directory.is_dir():
            return
        try:
            self._look()
        except FatalError as fault:
            try:
                self._keep()
            except FatalError as error:
                raise FatalError(f"{fault}; and {error}") from error
            raise
        self._keep()

    def _look(self) -> x509.CertificateRevocationList:
        """Return the CRL in the directory. Raise FatalError where it must not follow."""
        self._memory = self._memory.merged(Memory.read(self.directory))
        return check_crl(self.directory, self._memory)

    def _keep(self) -> None:
        self.is_kept = False
        self._memory = self._memory.written(self.directory)
        self.is_kept = True

    def _remember(self) -> None:
        """Remember the CRL that is about to be read, before it is. Raise FatalError where it must
        not follow what was read before.
        """
        try:
            crl = self._look()
            root = layout.read_root_crl(self.directory)
            self._memory = self._memory.following(crl, root)
        finally:
            with suppress(FatalError):  # a full disk keeps no revocation from working
                self._keep()

    def _started(self, timeout_s: float) -> bool:
        self._standing = Standing(self.config, self.config.crl())
        self._engine.prepare(self.config, self.log)
        self._child.start(
            self._engine.command(self.config),
            self._engine.environment(self.config),
            # So what it saves stays in this directory, wherever somebody moves that to.
            self.config.directory,
            self.config.limits.connections + _OPEN_FILES,
        )
        if not self._child.listens(self._engine.ready, timeout_s):
            return False
        if not self._engine.is_whole(self._child):
            self.stop()
            return False
        try:
            self._engine.complete(self._child)
        except BaseException:
            self.stop()
            raise
        return True


def engine_of(config: BrokerConfig, name: str | None = None) -> Engine:
    """Return the broker of this name, else the one that the settings have. Raise FatalError where
    it is not installed, or cannot serve these settings.
    """
    wanted = name or config.engine
    replace(config, engine=wanted).check()
    return _ENGINES[wanted]()


def _auto() -> Engine:
    program = find_mosquitto()
    return Mosquitto(program) if program else Embedded()


def _mosquitto() -> Engine:
    program = find_mosquitto()
    if program is None:
        raise FatalError(
            "Mosquitto is not installed: apt-get install mosquitto, or use --engine amqtt to try "
            "things out"
        )
    return Mosquitto(program)


def _hivemq() -> Engine:
    program = find_hivemq()
    if program is None:
        raise FatalError(f"set {HOME} to the directory of HiveMQ CE, which has bin/hivemq.jar")
    return HiveMQ(program)


def _rabbitmq() -> Engine:
    program = find_rabbitmq()
    if program is None:
        raise FatalError("RabbitMQ is not installed: apt-get install rabbitmq-server")
    return RabbitMQ(program)


_ENGINES: Mapping[str, Callable[[], Engine]] = {
    AUTO: _auto,
    MOSQUITTO: _mosquitto,
    AMQTT: Embedded,
    HIVEMQ: _hivemq,
    RABBITMQ: _rabbitmq,
}


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
