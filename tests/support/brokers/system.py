"""A system of its own with a Mosquitto that is restarted for real, for `broker install`; started by
root it is the user mosquitto's, as Debian has it.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securemqtt_tools.broker.children import spawn
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.cli import main
from support.network.net import wait_until
from support.requirements import require_program, unavailable
from support.speed import seconds

SERVICE_USER = "mosquitto"
# A broker that cannot start is started again and again, so its pid file, and the process, may be
# gone at any moment.
_RESTART = """
import contextlib, os, pathlib, signal, sys, time
pid_file, deadline = pathlib.Path(sys.argv[1]), time.monotonic() + float(sys.argv[2])
def pid_other_than(unwanted):
    while True:
        with contextlib.suppress(FileNotFoundError):
            if (pid := pid_file.read_text()) not in ("", unwanted):
                return pid
        if time.monotonic() > deadline:
            sys.exit("Job for mosquitto.service failed")
        time.sleep(0.01)
before = pid_other_than(None)
with contextlib.suppress(ProcessLookupError):
    os.kill(int(before), signal.SIGTERM)
pid_other_than(before)
"""
_RELOAD = (
    "import os, pathlib, sys; os.kill(int(pathlib.Path(sys.argv[1]).read_text()), 1)  # SIGHUP"
)


class System:
    """A system whose Mosquitto is started again whenever it ends, as by systemd, and which runs
    nothing of ours yet.

    `etc` is who makes it's, `data` the user's that Mosquitto runs as.
    """

    def __init__(self, directory: Path, user: str | None) -> None:
        self.program = require_program("mosquitto")
        self.etc = directory / "etc"
        self.data = directory / "data"
        self.folder = self.etc / "securemqtt"
        self.log = self.data / "mosquitto.log"
        self.pid_file = self.data / "mosquitto.pid"
        self.port = free_port("127.0.0.1")
        (self.etc / "conf.d").mkdir(parents=True)
        for one in (self.etc, self.etc / "conf.d"):
            one.chmod(0o755)
        self.data.mkdir()
        if user is not None:
            shutil.chown(self.data, user, user)
        (self.etc / "mosquitto.conf").write_text(
            f"{'' if user is None else f'user {user}'}\npid_file {self.pid_file}\n"
            f"persistence true\npersistence_location {self.data}/\nlog_dest file {self.log}\n"
            f"log_type all\ninclude_dir {self.etc}/conf.d\n"
        )
        (self.etc / "conf.d" / "local.conf").write_text(f"listener {self.port} 127.0.0.1\n")
        script = directory / "restart.py"
        script.write_text(_RESTART)
        self.restart = shlex.join(
            [sys.executable, str(script), str(self.pid_file), str(seconds(20))]
        )
        self.reload = shlex.join([sys.executable, "-c", _RELOAD, str(self.pid_file)])
        self._output = directory / "output"
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running)

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.listens(self.port), what="the system's Mosquitto")

    def stop(self) -> None:
        self._ended.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join(timeout=seconds(20))
        assert not self._thread.is_alive()

    def install(self, home: Path, *options: str) -> int:
        """Run `broker install` for the broker of `home`; return its exit status."""
        return main([*self.arguments(home), *options], command="broker")

    def arguments(self, home: Path) -> list[str]:
        """Return those of `securemqtt broker` to install the broker of `home` here."""
        arguments = ["install", "--home", home, "--etc", self.etc, "--restart", self.restart]
        return list(map(str, arguments))

    @staticmethod
    def listens(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def content(self) -> dict[str, bytes]:
        """Return all files of the configuration."""
        return {str(path): path.read_bytes() for path in self.etc.rglob("*") if path.is_file()}

    def _keep_running(self) -> None:
        while not self._ended.wait(0.02):
            self._process = spawn(
                [self.program, "-c", str(self.etc / "mosquitto.conf")], self._output
            )
            self._process.wait()


@contextmanager
def running_system() -> Iterator[System]:
    """Run a system whose Mosquitto is, for root, the user mosquitto's; else the caller's."""
    user = (SERVICE_USER if service_user() else "root") if os.geteuid() == 0 else None
    with open_directory() as directory:
        system = System(directory, user)
        system.start()
        try:
            yield system
        finally:
            system.stop()


@contextmanager
def open_directory() -> Iterator[Path]:
    """Make a directory that all users may enter, as pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="securemqtt-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def service_user() -> pwd.struct_passwd | None:
    """Return the user that Debian's Mosquitto runs as, None where there is none."""
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None


def require_service_user() -> pwd.struct_passwd:
    """Return the user mosquitto for a test in which root acts, and that user against it."""
    user = service_user()
    if os.geteuid() != 0 or user is None:
        unavailable("needs root and a user mosquitto: sudo, apt-get install mosquitto")
    return user
