"""HiveMQ CE, run as a process of our own."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker.child import Child
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.engine import Engine, Standing
from securemqtt_tools.broker.hivemq.access import write_access
from securemqtt_tools.broker.hivemq.build import EXTENSION, install_extension
from securemqtt_tools.broker.hivemq.configuration import LOGBACK, render
from securemqtt_tools.broker.hivemq.program import Program
from securemqtt_tools.broker.hivemq.stores import write_stores
from securemqtt_tools.broker.kinds import HIVEMQ
from securemqtt_tools.broker.trust import device_context
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import make_directory, read_private, write_files

FOLDER = "hivemq"
_PASSWORD = "password"  # noqa: S105  (the name of a file)
_ACCESS = "access"
# Behind the time, and nowhere else: a line may have what a client has chosen.
_TAKEN_UP = rb"^\S+: INFO securemqtt: rules %s taken up$"
_NO_LISTENER = re.compile(
    rb"^\S+: ERROR Could not start .* Listener with TLS on port", re.MULTILINE
)
_NEW_CONTEXT = re.compile(rb"^\S+: INFO Successfully updated changed SSL Context$", re.MULTILINE)
# The extension looks at its file once a second, and gives evictions 10 s; HiveMQ looks at its
# certificate every 10 s.
_HOLDS_S = 60.0
_POLL_S = 0.05
_CONNECT_S = 10.0
_JAVA_OPTIONS = (
    # as HiveMQ's own run.sh
    "-Djava.net.preferIPv4Stack=%s",
    *(
        f"--add-opens={package}=ALL-UNNAMED"
        for package in (
            "java.base/java.lang",
            "java.base/java.nio",
            "java.base/sun.nio.ch",
            "jdk.management/com.sun.management.internal",
        )
    ),
    "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
    "-Duser.language=en",
    "-Duser.region=US",
    "-XX:+ExitOnOutOfMemoryError",
    # of ours: nothing of TLS is agreed on anew within a connection
    "-Djdk.tls.rejectClientInitiatedRenegotiation=true",
)


class HiveMQ(Engine):
    """An installed HiveMQ CE; its own files are in hivemq/ in the broker's directory. Its extension
    puts out by itself who was revoked, and looks at the certificate of a TLS session that is
    resumed.
    """

    name = HIVEMQ
    kept = f"{FOLDER}/data"
    start_s = 180.0
    stop_s = 60.0
    # That it listens, and the extension is there; without that it would listen, and let nobody in.
    ready = re.compile(
        rb"^\S+: INFO securemqtt: rules \d+ taken up$"
        rb"(?:\n.*)*?\n\S+: INFO Started HiveMQ in \d+ms$",
        re.MULTILINE,
    )

    def __init__(self, program: Program) -> None:
        self._program = program
        self._taken_up = 0  # the number of the rules that the running one is known to have
        self._asked = 0  # the number of the rules that it was given
        self._asked_at: int | None = None  # from there on its log says so; None: from its start on

    @property
    def title(self) -> str:
        """What people call it."""
        return f"HiveMQ {self._program.version_text}"

    def prepare(self, config: BrokerConfig, log: Path) -> None:
        """Write all files that it reads, owner-only, and build its extension. Raise FatalError."""
        home = config.directory / FOLDER
        for folder in ("conf", "extensions", "data", "log", "tmp"):
            make_directory(home / folder)
        password = _password(home)
        write_stores(home, config, password)
        install_extension(self._program, home / "extensions")
        self._taken_up, self._asked, self._asked_at = 0, self._write_access(config), None
        text = render(config, home, password)
        write_files(home / "conf", {"config.xml": text.encode(), "logback.xml": LOGBACK.encode()})

    def command(self, config: BrokerConfig) -> list[str]:
        """Return how it is started; its log is its output."""
        only_ipv4 = "false" if ":" in config.bind else "true"
        options = [one.replace("%s", only_ipv4) for one in _JAVA_OPTIONS]
        home = config.directory / FOLDER
        return [
            str(self._program.java),
            f"-Dhivemq.home={home}",
            f"-Djava.io.tmpdir={home / 'tmp'}",
            f"-XX:ErrorFile={home / 'log' / 'hs_err_pid%p.log'}",
            *options,
            "-jar",
            str(self._program.jar),
        ]

    def environment(self, config: BrokerConfig) -> dict[str, str]:
        """Return this process's, without what would lead it to other files."""
        return {name: value for name, value in os.environ.items() if not name.startswith("HIVEMQ_")}

    def is_whole(self, child: Child) -> bool:
        """Whether each listener is there: HiveMQ starts as long as it has one."""
        return _NO_LISTENER.search(child.words()) is None

    def take_up(self, child: Child, before: Standing, now: Standing) -> bool:
        """Have it take up what has changed, and wait until it holds: rules and revocations a second
        or two, a certificate up to 10 s. Never by a restart. Raise FatalError.
        """
        config = now.config
        home = config.directory / FOLDER
        since = child.log_size()
        anew = write_stores(home, config, _password(home))
        number = self._write_access(config)
        if number != self._asked:
            self._asked, self._asked_at = number, since
        deadline = time.monotonic() + _HOLDS_S
        if number != self._taken_up:
            pattern = re.compile(_TAKEN_UP % b"%d" % number, re.MULTILINE)

            def has_rules() -> bool:
                return pattern.search(child.words(self._asked_at)) is not None

            _await(has_rules, child, deadline, "its rules")
            self._taken_up = number
        if anew:

            def has_certificate() -> bool:
                return _NEW_CONTEXT.search(child.words(since)) is not None and _shows(config)

            _await(has_certificate, child, deadline, "its certificate")
        return True

    def keep_out(self, child: Child) -> bool:
        """Do nothing: its extension looks at each CONNECT."""
        return True

    def let_go(self) -> None:
        """Do nothing: nobody is looked for."""

    def end_tls_sessions(self, child: Child) -> bool:
        """Do nothing: its extension looks at the dates of a resumed session's certificate."""
        return True

    def _write_access(self, config: BrokerConfig) -> int:
        path = config.directory / FOLDER / "extensions" / EXTENSION / _ACCESS
        return write_access(path, config)


def _password(home: Path) -> str:
    """Return the password of its files of keys, made the first time."""
    path = home / _PASSWORD
    if not path.exists():
        write_files(home, {_PASSWORD: secrets.token_hex(32).encode()})
    return read_private(path).decode()


def _await(condition: Callable[[], bool], child: Child, deadline: float, what: str) -> None:
    while not condition():
        if time.monotonic() > deadline or not child.running:
            raise FatalError(
                f"HiveMQ did not take up {what} within {_HOLDS_S:.0f} s: see {child.log}"
            )
        time.sleep(_POLL_S)


def _shows(config: BrokerConfig) -> bool:
    """Return True if each listener shows the certificate that the files have."""
    newest = config.server_certificate().public_bytes(Encoding.DER)
    context = device_context(config.server_trust())
    for port in (one for one in (config.port, config.websockets_port) if one is not None):
        try:
            with (
                socket.create_connection((config.local_host, port), _CONNECT_S) as plain,
                context.wrap_socket(plain, server_hostname=config.names[0]) as tls,
            ):
                if tls.getpeercert(binary_form=True) != newest:
                    return False
        except OSError:  # it shows one that is worth nothing
            return False
    return True
