"""Write requirements.lock and tools.lock anew: `make lock`, or `make lock UPGRADE=1` for the newest
versions of all.

The versions that are locked stay, their hashes do not: each is taken from the index, so that no
line that somebody has changed outlives this.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.setup_environment import LOCK, ROOT, versions_only

TOOLS = ROOT / "tests" / "support" / "release"
_COMPILE = ("pip", "compile", "--quiet", "--universal", "--python-version", "3.10")
_FORM = ("--generate-hashes", "--no-annotate", "--custom-compile-command", "make lock")
_EXTRAS = ("--extra", "tools", "--extra", "sim", "--extra", "test")
_YES = ("1", "yes", "true")
_NO = ("", "0", "no", "false")


def main(uv: str, upgrade: str) -> int:
    """Write both locks with this uv; `upgrade` is what `make` was given. Return the exit status."""
    try:
        newest = wants_upgrade(upgrade)
        write_lock(uv, LOCK, newest, "--system-certs", *_EXTRAS, "setup.cfg")
        tools = TOOLS / "tools.in"
        write_lock(uv, TOOLS / "tools.lock", newest, "--system-certs", str(tools))
    except LockError as error:
        print(f"lock: {error}", file=sys.stderr)
        return 1
    return 0


class LockError(Exception):
    """No lock was written; the message says why."""


def wants_upgrade(text: str) -> bool:
    """Return whether UPGRADE=… means yes. Raise LockError for what is neither yes nor no."""
    if text.lower() not in _YES + _NO:
        raise LockError(f"UPGRADE={text} is neither {'/'.join(_YES)} nor {'/'.join(_NO[1:])}")
    return text.lower() in _YES


def write_lock(uv: str, lock: Path, newest: bool, *arguments: str) -> None:
    """Have uv write a lock of what `arguments` name. Raise LockError; the lock is then as it was.

    uv takes over versions, and their hashes unseen, from a file that is there already: so it gets
    one that has versions only, or none if the `newest` are wanted.
    """
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory) / lock.name
        if lock.exists() and not newest:
            written.write_text("\n".join([*versions_only(lock.read_text()), ""]))
        command = [uv, *_COMPILE, *_FORM, "--output-file", str(written), *arguments]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        if done.returncode:
            raise LockError(done.stderr.strip())
        lock.write_text(written.read_text())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
