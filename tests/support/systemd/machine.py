"""systemd as the first process of namespaces of its own (processes, mounts, cgroups), on an overlay
of this machine's files: it starts real services, and leaves nothing behind.

SECUREMQTT_SYSTEMD names the root directory of another system, such as debootstrap makes, whose
files and systemd are to be used instead. The network is the machine's, so that services reach a
test's broker.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from support.network.net import wait_until
from support.processes import children
from support.requirements import unavailable
from support.speed import seconds

_ENTER = Path(__file__).with_name("enter.sh")
_PROJECT = Path(__file__).resolve().parents[3]
_FILES = Path(os.environ.get("SECUREMQTT_SYSTEMD", "/"))
_SYSTEMD = _FILES / "lib/systemd/systemd"
_CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")
# Where the directory that is shared with the test is, inside.
SHARED = Path("/srv/test")


class Machine:
    """A context in which systemd runs; `run` calls a command in it."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self._pid = 0

    def __enter__(self) -> Machine:
        _require()
        self._base = Path(tempfile.mkdtemp(prefix="securemqtt-systemd-"))
        self._cgroup = _cgroups() / self._base.name
        self._cgroup.mkdir()
        self._log = (self._base.parent / f"{self._base.name}.log").open("w+")
        namespaces = "--mount --pid --fork --cgroup --uts --ipc --propagation private --kill-child"
        # In its cgroup first: the namespace begins there.
        script = f'echo $$ > "$0/cgroup.procs"; exec unshare {namespaces} sh "$@"'
        self._process = subprocess.Popen(
            ["sh", "-c", script, self._cgroup, _ENTER, self._base, self.shared, _FILES, _PROJECT],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            wait_until(self._is_up, seconds(60))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for pid in children(self._process.pid):
            os.kill(pid, signal.SIGKILL)  # the first process, and with it all others
        self._process.kill()
        self._process.wait()
        self._log.close()
        Path(self._log.name).unlink()
        wait_until(self._removed, seconds(30))
        shutil.rmtree(self._base)

    def run(
        self,
        *command: str | Path,
        user: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command beside the services, as root or as a user; return how it ended."""
        words: list[str | Path] = [*_ENVIRONMENT]
        words += [f"{name}={value}" for name, value in (environment or {}).items()]
        if user is not None:
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *words]
        return subprocess.run(
            [*self._inside(), *words, *command],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds(120),
            check=False,
        )

    def checked(self, *command: str | Path) -> str:
        """Run a command that must succeed, and return what it prints."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _inside(self) -> list[str]:
        namespaces = ("--mount", "--pid", "--cgroup", "--uts", "--ipc", "--wd")
        return ["nsenter", f"--target={self._pid}", *namespaces]

    def _is_up(self) -> bool:
        found = children(self._process.pid)
        if self._process.poll() is not None or not found:
            assert self._process.poll() is None, Path(self._log.name).read_text()
            return False
        self._pid = found[0]
        if Path(f"/proc/{self._pid}/comm").read_text() != "systemd\n":
            return False
        done = self.run("systemctl", "is-active", "basic.target")
        return done.stdout == "active\n"

    def _removed(self) -> bool:
        """Remove the cgroups, which is refused until the kernel has taken note that they are
        empty.
        """
        try:
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                Path(directory).rmdir()
        except OSError:
            return False
        return True


def _require() -> None:
    if os.geteuid() != 0:
        unavailable("a systemd of one's own needs root (mounts and cgroups)")
    for program in ("unshare", "nsenter", "setpriv", "systemctl"):
        if shutil.which(program) is None:
            unavailable(f"{program} is not installed: apt-get install systemd util-linux")
    if not _SYSTEMD.exists():
        unavailable("systemd is not installed: apt-get install systemd")


def _cgroups() -> Path:
    found = [path for path in _CGROUPS if (path / "cgroup.controllers").exists()]
    if not found:  # no package that is missing: a chroot, or a container, that has none
        pytest.skip("no cgroups of version 2 are mounted here")
    return found[0]
