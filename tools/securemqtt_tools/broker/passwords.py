"""Passwords on top of certificates, in the file format of Mosquitto's password file.

They are made here, of 192 random bits, and never chosen, so a hash needs no stretching against
guessing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from securemqtt_tools.pki.files import explained, locked, write_file
from securemqtt_tools.pki.names import check_device_id

_KIND = "7"  # PBKDF2 with HMAC-SHA-512
_ITERATIONS = 101  # what mosquitto_passwd writes
_SALT_BYTES = 12
_PASSWORD_BYTES = 24


def set_password(file: Path, identity: str, keep: Callable[[str], None] = lambda _: None) -> str:
    """Make a new password for `identity`, replacing the old one; return it.

    The file gets its hash, once `keep` has been called with it and has put it where it is not lost;
    where that fails, the one before stays. Raise FatalError.
    """
    check_device_id(identity)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    with _changing(file) as hashes:
        hashes[identity] = _hash(password, secrets.token_bytes(_SALT_BYTES), _ITERATIONS)
        keep(password)
    return password


def remove_password(file: Path, identity: str) -> bool:
    """Take away the password of `identity`; return True if there was one. Raise FatalError."""
    with _changing(file) as hashes:
        return hashes.pop(identity, None) is not None


def read_hashes(file: Path) -> dict[str, str]:
    """Read the file: the hash of each identity that has a password. Raise FatalError."""
    with explained(f"read {file}"):
        text = file.read_text(encoding="utf-8")
    lines = [line.partition(":") for line in text.splitlines() if line]
    return {identity: hashed for identity, _, hashed in lines}


def password_matches(hashed: str | None, password: str | None) -> bool:
    """Say whether a password fits a hash of the file; never when either is missing or of another
    kind.
    """
    if not hashed or password is None:
        return False
    try:
        _, kind, iterations, salt, _ = hashed.split("$")
        expected = _hash(password, base64.b64decode(salt, validate=True), int(iterations))
    except ValueError:
        return False
    return kind == _KIND and hmac.compare_digest(expected, hashed)


def _hash(password: str, salt: bytes, iterations: int) -> str:
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    encoded = (base64.b64encode(part).decode() for part in (salt, digest))
    return "$".join(("", _KIND, str(iterations), *encoded))


@contextmanager
def _changing(file: Path) -> Iterator[dict[str, str]]:
    """Return the content to be changed and write it back; other processes that want to change it
    wait meanwhile.
    """
    with locked(file):
        hashes = read_hashes(file)
        yield hashes
        write_file(
            file, "".join(f"{identity}:{hashed}\n" for identity, hashed in hashes.items()).encode()
        )
