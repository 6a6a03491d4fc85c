"""MicroPython on 32 bits, as boards are: Debian 13's i386 package, unpacked below .build/cache and
started by its own dynamic linker.

`python -m support.interpreters.micropython32` prints the path of a program that starts it; the
first time it is downloaded (15 MB of index, 4 MB of packages), checked by apt against Debian's
signatures. Nothing is installed, and the machine's apt keeps its configuration and its lists. Needs
an x86-64 Linux that runs 32-bit programs, as those of the distributions do.
"""

from __future__ import annotations

import fcntl
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.requirements import unavailable
from support.speed import seconds

ROOT = Path(__file__).resolve().parents[3]
_CACHE = ROOT / ".build" / "cache"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCE = f"deb [arch=i386 signed-by={_KEYRING}] http://deb.debian.org/debian trixie main\n"
# What the interpreter is linked to, and itself.
_PACKAGES = (
    "micropython",
    "libc6",
    "libffi8",
    "libmbedcrypto16",
    "libmbedtls21",
    "libmbedx509-7",
)
_STARTER = """\
#!/bin/sh
here=${0%/*}
libraries=$here/usr/lib/i386-linux-gnu
exec "$libraries/ld-linux.so.2" --library-path "$libraries" "$here/usr/bin/micropython" "$@"
"""
_COMMAND_S = seconds(300)


class UnavailableError(Exception):
    """MicroPython on 32 bits cannot be had here; the message names what is missing."""


def find_micropython32(cache: Path = _CACHE) -> Path:
    """Return the path of a program that is MicroPython on 32 bits; downloaded into `cache` if it is
    not there yet.

    Raise UnavailableError where that cannot be done.
    """
    directory = cache / "micropython32"
    program = directory / "micropython"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "micropython32.lock"):
            if not program.exists():
                _install(directory)
    return program


def require_micropython32() -> Path:
    """Return the path of MicroPython on 32 bits; fail in CI, skip elsewhere, where it cannot be
    had.
    """
    try:
        return find_micropython32()
    except UnavailableError as error:
        unavailable(str(error))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes of these tests respect; it goes with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(directory: Path) -> None:
    """Download and unpack into a directory beside `directory`, try it, and give it its name."""
    _check_machine()
    with tempfile.TemporaryDirectory(prefix="micropython32-", dir=directory.parent) as name:
        scratch = Path(name)
        scratch.chmod(0o755)  # apt drops its privileges for what it downloads
        unpacked = scratch / "micropython32"
        unpacked.mkdir()
        for package in _download(scratch / "apt"):
            _run(["dpkg-deb", "--extract", str(package), str(unpacked)])
        program = unpacked / "micropython"
        program.write_text(_STARTER)
        program.chmod(0o755)
        _check_word_size(program)
        unpacked.rename(directory)


def _check_machine() -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UnavailableError(
            f"MicroPython on 32 bits runs on Linux on x86-64 only, and this is "
            f"{platform.system()} on {platform.machine()}"
        )
    for program, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        if shutil.which(program) is None:
            raise UnavailableError(
                f"MicroPython on 32 bits comes from Debian, by {program}, which is not installed "
                f"here: it is in the package {package}"
            )
    if not _KEYRING.exists():
        raise UnavailableError(
            f"MicroPython on 32 bits comes from Debian, whose keys ({_KEYRING}) are not here: "
            "apt-get install debian-archive-keyring"
        )


def _check_word_size(program: Path) -> None:
    try:
        output = _run([str(program), "-c", "import sys; print(sys.maxsize)"])
    except UnavailableError as error:
        raise UnavailableError(
            f"{error}; does this kernel run 32-bit programs (CONFIG_IA32_EMULATION)?"
        ) from error
    if int(output) != 2**31 - 1:
        raise UnavailableError(f"Debian's i386 MicroPython has sys.maxsize {output.strip()}")


def _download(directory: Path) -> list[Path]:
    """Have apt fetch the packages, with lists and sources of its own in `directory`; return their
    files.
    """
    packages = directory / "packages"
    for folder in (packages, directory / "lists" / "partial", directory / "archives" / "partial"):
        folder.mkdir(parents=True)
    (directory / "sources.list").write_text(_SOURCE)
    (directory / "status").touch()
    configuration = directory / "apt.conf"
    configuration.write_text(_configuration(directory))
    environment = {"APT_CONFIG": str(configuration), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    # any: an index that cannot be had is an error, not a warning
    _run(["apt-get", "--quiet", "update", "--error-on=any"], environment)
    _run(["apt-get", "--quiet", "download", *_PACKAGES], environment, packages)
    return sorted(packages.glob("*.deb"))


def _configuration(directory: Path) -> str:
    """Return apt's configuration: how this machine reaches the network (a proxy, say), and nothing
    else of what it has set, hooks for one.
    """
    acquire = _run(["apt-config", "dump", "Acquire"])
    return f"""{acquire}
#clear Acquire::Languages;
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Architecture "i386";
APT::Architectures {{ "i386"; }};
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "{directory}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{directory}/lists";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/archives";
"""


def _run(
    command: list[str], environment: dict[str, str] | None = None, directory: Path | None = None
) -> str:
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"MicroPython on 32 bits cannot be fetched: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if not line.startswith("W:")]
        raise UnavailableError(
            f"MicroPython on 32 bits cannot be fetched: {Path(command[0]).name} says "
            f"{' '.join(said[-2:]) or done.returncode}"
        )
    return done.stdout


def main() -> int:
    """Print the path; one line says why there is none."""
    try:
        print(find_micropython32())
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
