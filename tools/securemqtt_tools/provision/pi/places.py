"""Where a Pi's bundle goes: a directory of this machine, or one on a Pi that ssh reaches."""

from __future__ import annotations

import io
import os
import shlex
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import (
    explained,
    make_directory,
    read_foreign,
    read_private,
    write_files,
)
from securemqtt_tools.provision.bundle import CONFIG, LOGIN_SUFFIX
from securemqtt_tools.provision.pi.provisioning import CLAIM, Found

_SSH_S = 120
_OWNER_ONLY = 0o700
# below the home directory of the user: one of the places where the library looks
_REMOTE = ".config/securemqtt"
_MARK = "@@ "
_SUFFIXES = (".pem", ".key", LOGIN_SUFFIX, ".part")
# Prints public files as they are, of each private key the public half, if it can be had without a
# passphrase, and of a password's file the SHA-256.
_LOOK = f"""
cd {_REMOTE} 2>/dev/null || exit 0
for f in *.json *.pem; do [ -f "$f" ] && echo "{_MARK}$f" && cat "$f" && echo; done
for f in *.key; do
    [ -f "$f" ] || continue
    echo "{_MARK}$f"
    if grep -q ENCRYPTED "$f" || ! command -v openssl >/dev/null; then echo unknown; continue; fi
    openssl pkey -in "$f" -pubout 2>/dev/null
done
for f in *{LOGIN_SUFFIX}; do
    [ -f "$f" ] && echo "{_MARK}$f" && sha256sum < "$f"
done
echo "{_MARK}"
"""


class LocalDirectory:
    """A directory of this machine: a Pi provisions itself, or somebody carries the bundle to
    one.
    """

    def __init__(self, directory: Path) -> None:
        self.title = str(directory)
        self._directory = directory

    def look(self) -> Found:
        """See Place."""
        files, keys, passwords = {}, {}, {}
        if not self._directory.exists():
            return Found()
        with explained(f"read {self._directory}"):
            for path in sorted(self._directory.iterdir()):
                if not path.is_file():  # a FIFO would be waited for
                    continue
                if path.name in (CONFIG, CLAIM) or path.suffix == ".pem":
                    files[path.name] = read_foreign(path)
                elif path.suffix == ".key":
                    keys[path.name] = _public_half(read_private(path))
                elif path.suffix == LOGIN_SUFFIX:
                    passwords[path.name] = sha256(read_private(path)).hexdigest()
            return Found(files, keys, self._is_open(), passwords)

    def put(self, files: Mapping[str, bytes], removes: Iterable[str]) -> None:
        """See Place."""
        make_directory(self._directory)
        with explained(f"make {self._directory} owner-only"):
            if self._is_open():
                self._directory.chmod(_OWNER_ONLY)
        write_files(self._directory, files)
        with explained(f"write to {self._directory}"):
            for name in removes:
                (self._directory / name).unlink(missing_ok=True)

    def _is_open(self) -> bool:
        """Return True if others than its owner may look into the directory, and this is to end: it
        is ours, and holds nothing but a bundle.

        Raise FatalError if others may write there, and who uses it has to end that.
        """
        there = self._directory.stat()
        mode = stat.S_IMODE(there.st_mode)
        if not mode & 0o077:
            return False
        ours = os.geteuid() in (0, there.st_uid)
        others = [path for path in self._directory.iterdir() if not _of_a_bundle(path)]
        if ours and not others:
            return True
        if mode & 0o022:
            why, remedy = "is another user's", "give --out a directory of your own"
            if ours:
                why = f"holds more than a bundle ({others[0].name})"
                remedy = f"run chmod go-w {shlex.quote(str(self._directory))}"
            raise FatalError(
                f"{self._directory} can be changed by others (mode {mode:o}), so no program would "
                f"take a bundle from there, and it {why}: {remedy}"
            )
        return False


class SshDirectory:
    """~/.config/securemqtt of a user on a Pi, by way of the system's ssh, which asks for passwords
    itself.
    """

    def __init__(self, target: str) -> None:
        if target.startswith("-") or not target:
            raise FatalError(f"{target!r} is no ssh destination: use user@host")
        self.title = f"{target}:~/{_REMOTE}"
        self._target = target

    def look(self) -> Found:
        """See Place."""
        files, keys, passwords = {}, {}, {}
        for block in self._run(_LOOK, b"").decode(errors="replace").split(f"\n{_MARK}"):
            name, _, content = block.removeprefix(_MARK).partition("\n")
            if name.endswith(".key"):
                keys[name] = _subject_public_key(content.encode())
            elif name.endswith(LOGIN_SUFFIX):
                passwords[name] = content.partition(" ")[0]
            elif name:
                files[name] = content.encode()
        return Found(files, keys, passwords=passwords)

    def put(self, files: Mapping[str, bytes], removes: Iterable[str]) -> None:
        """See Place."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(f"{name}.new")
                member.size, member.mode = len(content), 0o600
                tar.addfile(member, io.BytesIO(content))
        moves = " && ".join(f"mv -f {shlex.quote(name)}.new {shlex.quote(name)}" for name in files)
        removal = (
            "rm -f " + " ".join(f"./{shlex.quote(name)}" for name in removes) if removes else "true"
        )
        self._run(
            f"umask 077 && mkdir -p {_REMOTE} && chmod 700 {_REMOTE} && cd {_REMOTE} && tar -xof "
            f"- && {moves} && sync && {removal}",
            archive.getvalue(),
        )

    def _run(self, command: str, stdin: bytes) -> bytes:
        try:
            result = subprocess.run(
                ["ssh", "-T", "--", self._target, command],
                input=stdin,
                capture_output=True,
                timeout=_SSH_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise FatalError(
                "ssh is not installed: apt-get install openssh-client, or use --out DIR"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise FatalError(
                f"{self._target} did not answer within {_SSH_S} s: try `ssh {self._target}`"
            ) from error
        if result.returncode:
            said = result.stderr.decode(errors="replace").strip().splitlines()
            raise FatalError(
                f"ssh to {self._target} failed: "
                f"{said[-1] if said else f'status {result.returncode}'}; "
                f"try `ssh {shlex.quote(self._target)}` by hand"
            )
        return result.stdout


def _of_a_bundle(path: Path) -> bool:
    return path.name in (CONFIG, CLAIM, "outbox") or path.suffix in _SUFFIXES


def _public_half(key: bytes) -> bytes | None:
    """Return the public half of a private key; b"" for an encrypted one, None for what is no
    key.
    """
    if b"ENCRYPTED" in key:
        return b""
    try:
        public = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError):
        return None
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _subject_public_key(pem: bytes) -> bytes | None:
    if pem.startswith(b"unknown"):
        return b""
    try:
        return load_pem_public_key(pem).public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    except ValueError:
        return None
