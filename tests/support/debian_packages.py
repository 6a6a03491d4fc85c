"""A program of another Debian release or architecture, with the libraries it is linked to:
unpacked below .build/cache and started by its own dynamic linker.

`python -m support.debian_packages mosquitto trixie` prints the path of a program that starts it;
the first time it is downloaded, checked by apt against Debian's signatures. Nothing is installed,
and the machine's apt keeps its configuration and its lists. Needs an x86-64 Linux.
"""

from __future__ import annotations

import fcntl
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.speed import seconds

CACHE = Path(__file__).resolve().parents[2] / ".build" / "cache"
PLACES = {"mosquitto": "usr/sbin/mosquitto", "micropython": "usr/bin/micropython"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR = "http://deb.debian.org/debian"
_LINKERS = {
    "amd64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "i386": ("i386-linux-gnu", "ld-linux.so.2"),
}
_STARTER = """\
#!/bin/sh
here=${{0%/*}}
up=$here/../..
exec "$up/{linker}" --library-path "{libraries}" "$0.elf" "$@"
"""
_COMMAND_S = seconds(300)


class UnavailableError(Exception):
    """The program cannot be had here; the message names what is missing."""


@dataclass(frozen=True)
class DebianProgram:
    """A program as one release of Debian has it; its name is the package's, too."""

    name: str
    release: str
    architecture: str = "amd64"

    def __str__(self) -> str:
        return f"{self.name} of Debian {self.release} ({self.architecture})"

    def find(self, cache: Path = CACHE, check: Callable[[Path], None] | None = None) -> Path:
        """Return the path of what starts it; downloaded into `cache` if it is not there yet, then
        tried by `check`, which raises UnavailableError if it does not serve.

        Raise UnavailableError where it cannot be had.
        """
        directory = cache / f"{self.name}-{self.release}-{self.architecture}"
        program = directory / PLACES[self.name]
        if not program.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(directory.with_name(directory.name + ".lock")):
                if not program.exists():
                    self._install(directory, check)
        return program

    def _install(self, directory: Path, check: Callable[[Path], None] | None) -> None:
        """Download and unpack into a directory beside `directory`, try it, and give it its name."""
        self._check_machine()
        with tempfile.TemporaryDirectory(prefix=self.name + "-", dir=directory.parent) as name:
            scratch = Path(name)
            scratch.chmod(0o755)  # apt drops its privileges for what it downloads
            unpacked = scratch / "unpacked"
            unpacked.mkdir()
            for package in self._download(scratch / "apt"):
                self._run(["dpkg-deb", "--extract", str(package), str(unpacked)])
            program = self._make_starter(unpacked)
            if check is not None:
                check(program)
            unpacked.rename(directory)

    def _check_machine(self) -> None:
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            raise UnavailableError(
                f"{self} runs on Linux on x86-64 only, and this is "
                f"{platform.system()} on {platform.machine()}"
            )
        for program, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
            if shutil.which(program) is None:
                raise UnavailableError(
                    f"{self} comes by {program}, which is not installed here: it is in the package "
                    f"{package}"
                )
        if not KEYRING.exists():
            raise UnavailableError(
                f"{self} is checked with Debian's keys ({KEYRING}), which are not here: apt-get "
                f"install debian-archive-keyring"
            )

    def _make_starter(self, unpacked: Path) -> Path:
        """Put a script in the program's place that starts it with its own linker and libraries."""
        program = unpacked / PLACES[self.name]
        program.rename(program.with_name(program.name + ".elf"))
        triplet, linker = _LINKERS[self.architecture]
        # /lib is a link to /usr/lib on a whole system, and a directory of its own in packages.
        directories = [
            place
            for place in (f"usr/lib/{triplet}", f"lib/{triplet}")
            if (unpacked / place).is_dir()
        ]
        # Some libraries get the name that programs ask for only when they are installed.
        self._run(["/sbin/ldconfig", "-n", *(str(unpacked / place) for place in directories)])
        holder = next(place for place in directories if (unpacked / place / linker).exists())
        program.write_text(
            _STARTER.format(
                linker=f"{holder}/{linker}",
                libraries=":".join(f"$up/{place}" for place in directories),
            )
        )
        program.chmod(0o755)
        return program

    def _download(self, directory: Path) -> list[Path]:
        """Have apt fetch the package and the libraries that it needs, with lists and sources of its
        own in `directory`; return their files.
        """
        packages = directory / "packages"
        lists, archives = directory / "lists", directory / "archives"
        for folder in (packages, lists / "partial", archives / "partial"):
            folder.mkdir(parents=True)
        (directory / "sources.list").write_text(
            f"deb [arch={self.architecture} signed-by={KEYRING}] {_MIRROR} {self.release} main\n"
        )
        (directory / "status").touch()
        configuration = directory / "apt.conf"
        configuration.write_text(self._configuration(directory))
        environment = {
            "APT_CONFIG": str(configuration),
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
        }
        # any: an index that cannot be had is an error, not a warning
        self._run(["apt-get", "--quiet", "update", "--error-on=any"], environment)
        plan = self._run(["apt-get", "--simulate", "install", self.name], environment)
        names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
        needed = [name for name in names if name == self.name or name.startswith(("lib", "zlib"))]
        self._run(["apt-get", "--quiet", "download", *needed], environment, packages)
        return sorted(packages.glob("*.deb"))

    def _configuration(self, directory: Path) -> str:
        """Return apt's configuration: how this machine reaches the network (a proxy, say), and
        nothing else of what it has set, hooks for one.
        """
        acquire = self._run(["apt-config", "dump", "Acquire"])
        return f"""{acquire}
#clear Acquire::Languages;
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Architecture "{self.architecture}";
APT::Architectures {{ "{self.architecture}"; }};
APT::Install-Recommends "false";
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
        self,
        command: list[str],
        environment: dict[str, str] | None = None,
        directory: Path | None = None,
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
            raise UnavailableError(f"{self} cannot be fetched: {error}") from error
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if not line.startswith("W:")]
            raise UnavailableError(
                f"{self} cannot be fetched: {Path(command[0]).name} says "
                f"{' '.join(said[-2:]) or done.returncode}"
            )
        return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes of these tests respect; it goes with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Print the path; one line says why there is none."""
    try:
        print(DebianProgram(*arguments).find())
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
