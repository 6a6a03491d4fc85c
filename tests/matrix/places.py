"""Where the tests of a cell run: this checkout, or a clean clone in a Debian of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from matrix.cells import Cell
from support.debian_packages import UnavailableError

ROOT = Path(__file__).resolve().parents[2]
# Results, logs and Debians; SECUREMQTT_MATRIX puts them elsewhere.
WORK = Path(os.environ.get("SECUREMQTT_MATRIX") or ROOT / ".build" / "matrix").absolute()
_CELL_S = 90 * 60
_INCLUDE = "python3,python3-venv,make,git,ca-certificates"
_MIRROR = "http://deb.debian.org/debian"
# How this machine reaches the registries
_NETWORK_FILES = (
    "/etc/hosts",
    "/etc/pip.conf",
    "/etc/resolv.conf",
    "/etc/ssl/certs/ca-certificates.crt",
)
_NETWORK_SETTINGS = (
    "PIP_CERT",
    "PIP_DEFAULT_TIMEOUT",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
)
# Not by chroot alone: there the kernel refuses namespaces, and the tests that ask for one skip.
_ENTER = """
mount --bind "$0" "$0"
for place in proc sys dev dev/pts dev/shm; do mount --bind "/$place" "$0/$place"; done
cd "$0"
pivot_root . .
umount -l .
exec chroot . "$@"
"""


class Place:
    """A checkout and the way to run a script of bash in it."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout

    def python(self, version: str) -> str:
        """Return the command of this CPython; "" is the machine's.

        Raise UnavailableError if there is none.
        """
        return f"python{version}" if version else "python3"

    def run(self, script: str, log: Path) -> int:
        """Run it, its output to the end of `log`; return its exit code, or that of a time-out."""
        with log.open("a") as output:
            process = subprocess.Popen(
                self._command(script),
                cwd=self.checkout,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return process.wait(_CELL_S)
            except subprocess.TimeoutExpired:
                output.write(f"\nended after {_CELL_S} s\n")
                return 124
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def _command(self, script: str) -> list[str]:
        return ["bash", "-c", script]


class Here(Place):
    """This checkout on this machine, as it is."""

    def __init__(self) -> None:
        super().__init__(ROOT)

    def python(self, version: str) -> str:
        if not version:
            return "python3"
        name = f"python{version}"
        candidates = [
            *Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"),
            Path(shutil.which(name) or name),
        ]
        for path in candidates:
            command = [str(path), "-c", "import ensurepip, ssl, venv"]
            try:
                if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode:
                    continue
            except (OSError, subprocess.TimeoutExpired):
                continue
            return str(path)
        raise UnavailableError(f"there is no CPython {version} with ssl and venv on this machine")


class Debian(Place):
    """A release of Debian in a directory below WORK, made by debootstrap the first time;
    the clone in it is new each time.
    """

    def __init__(self, release: str) -> None:
        self.path = WORK / f"debian-{release}"
        super().__init__(self.path / "opt" / "securemqtt")
        self._make(release)
        shutil.rmtree(self.checkout, ignore_errors=True)
        _run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(self.checkout)])

    def _make(self, release: str) -> None:
        if self.path.exists():
            return
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise UnavailableError(
                f"a Debian {release} of its own needs root, and debootstrap: apt-get install "
                f"debootstrap"
            )
        partial = self.path.with_name(self.path.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        WORK.mkdir(parents=True, exist_ok=True)
        options = ["--variant=minbase", f"--include={_INCLUDE}"]
        _run(["debootstrap", *options, release, str(partial), _MIRROR])
        for name in _NETWORK_FILES:
            if Path(name).exists():
                shutil.copyfile(name, partial / name[1:])
        acquire = _run(["apt-config", "dump", "Acquire"])
        (partial / "etc" / "apt" / "apt.conf.d" / "90network").write_text(acquire)
        partial.rename(self.path)

    def _command(self, script: str) -> list[str]:
        # A mount namespace of its own: what is mounted there is gone with its last process.
        settings = [
            f"{name}={os.environ[name]}" for name in _NETWORK_SETTINGS if name in os.environ
        ]
        return [
            *("unshare", "--mount", "--propagation", "private", "sh", "-euc", _ENTER),
            *(str(self.path), "/usr/bin/env", "-i", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            *settings,
            *("bash", "-c", f"cd /opt/securemqtt\n{script}"),
        ]


def place_of(cell: Cell) -> Place:
    """Return where a cell runs, made if need be. Raise UnavailableError where it cannot be."""
    return Debian(cell.debian) if cell.debian else Here()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(f"{command[0]} says: {said[-1] if said else done.returncode}")
    return done.stdout
