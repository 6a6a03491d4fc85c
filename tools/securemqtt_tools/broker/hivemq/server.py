"""HiveMQ CE, as a part of its own: its files, how it is started, how it takes up what changes."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.hivemq.access import write_access
from securemqtt_tools.broker.hivemq.build import EXTENSION, install_extension
from securemqtt_tools.broker.hivemq.configuration import LOGBACK, render
from securemqtt_tools.broker.hivemq.program import Program
from securemqtt_tools.broker.hivemq.stores import write_stores
from securemqtt_tools.broker.trust import device_context
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, make_directory, read_private, write_files

FOLDER = "hivemq"
_PASSWORD = "password"  # noqa: S105  (the name of a file)
_ACCESS = "access"
# Behind the time, and nowhere else: a line may have what a client has chosen.
_TAKEN_UP = rb"^\S+: INFO securemqtt: rules %s taken up$"
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


class HiveMQ:
    """The HiveMQ CE that a broker's directory describes; its own files are in hivemq/ there."""

    # That it listens, and the extension is there; without that it would listen, and let nobody in.
    ready = re.compile(
        rb"^\S+: INFO securemqtt: rules \d+ taken up$"
        rb"(?:\n.*)*?\n\S+: INFO Started HiveMQ in \d+ms$",
        re.MULTILINE,
    )

    def __init__(self, config: BrokerConfig, program: Program, log: Path) -> None:
        self.config = config
        self._program = program
        self._log = log
        self._home = config.directory / FOLDER
        self._taken_up = 0  # the number of the rules that the running one is known to have
        self._since = 0  # where the log of the running one begins

    def write(self) -> None:
        """Write all files that it reads, owner-only, and build its extension. Raise FatalError."""
        if self.config.passwords:
            raise FatalError(
                "passwords are for Mosquitto and the embedded broker: with HiveMQ every client has "
                "a certificate"
            )
        for folder in ("conf", "extensions", "data", "log", "tmp"):
            make_directory(self._home / folder)
        password = self._password()
        write_stores(self._home, self.config, password)
        install_extension(self._program, self._home / "extensions")
        self._write_access()
        text = render(self.config, self._home, password)
        write_files(
            self._home / "conf", {"config.xml": text.encode(), "logback.xml": LOGBACK.encode()}
        )
        self._taken_up = 0
        self._since = self._log.stat().st_size if self._log.exists() else 0

    def command(self) -> list[str]:
        """Return how it is started in the foreground; its log is its output."""
        only_ipv4 = "false" if ":" in self.config.bind else "true"
        options = [one.replace("%s", only_ipv4) for one in _JAVA_OPTIONS]
        home = self._home
        return [
            str(self._program.java),
            f"-Dhivemq.home={home}",
            f"-Djava.io.tmpdir={home / 'tmp'}",
            f"-XX:ErrorFile={home / 'log' / 'hs_err_pid%p.log'}",
            *options,
            "-jar",
            str(self._program.jar),
        ]

    def environment(self) -> dict[str, str]:
        """Return its environment, without what would lead it to other files."""
        return {name: value for name, value in os.environ.items() if not name.startswith("HIVEMQ_")}

    def take_up(self) -> None:
        """Have the running one take up what has changed, while connections stand, and wait until it
        holds: rules and revocations a second or two, a certificate up to 10 s. Sessions of who may
        not be there any more have been ended then. Raise FatalError.
        """
        self.config = BrokerConfig.open(self.config.directory)
        since = self._log.stat().st_size if self._log.exists() else 0
        anew = write_stores(self._home, self.config, self._password())
        number = self._write_access()
        deadline = time.monotonic() + _HOLDS_S
        if number != self._taken_up:
            pattern = re.compile(_TAKEN_UP % b"%d" % number, re.MULTILINE)
            self._await(lambda: self._says(pattern, self._since), deadline, "its rules")
            self._taken_up = number
        if anew:
            self._await(lambda: self._says(_NEW_CONTEXT, since), deadline, "its certificate")
            self._await(self._shows_its_certificate, deadline, "its certificate")

    def _write_access(self) -> int:
        path = self._home / "extensions" / EXTENSION / _ACCESS
        return write_access(path, self.config)

    def _password(self) -> str:
        """Return the password of its files of keys, made the first time."""
        path = self._home / _PASSWORD
        if not path.exists():
            write_files(self._home, {_PASSWORD: secrets.token_hex(32).encode()})
        return read_private(path).decode()

    def _says(self, pattern: re.Pattern[bytes], offset: int) -> bool:
        with explained(f"read {self._log}"), self._log.open("rb") as file:
            file.seek(offset)
            return pattern.search(file.read()) is not None

    def _await(self, condition: Callable[[], bool], deadline: float, what: str) -> None:
        while not condition():
            if time.monotonic() > deadline:
                raise FatalError(
                    f"HiveMQ did not take up {what} within {_HOLDS_S:.0f} s: see {self._log}"
                )
            time.sleep(_POLL_S)

    def _shows_its_certificate(self) -> bool:
        """Return True if each listener shows the certificate that the files have."""
        newest = self.config.server_certificate().public_bytes(Encoding.DER)
        context = device_context(self.config.server_trust())
        ports = [self.config.port, self.config.websockets_port]
        for port in (one for one in ports if one is not None):
            try:
                with socket.create_connection((self.config.local_host, port), _CONNECT_S) as plain:
                    name = self.config.names[0]
                    with context.wrap_socket(plain, server_hostname=name) as tls:
                        if tls.getpeercert(binary_form=True) != newest:
                            return False
            except OSError:  # it shows one that is worth nothing
                return False
        return True
