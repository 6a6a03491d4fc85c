"""Passphrases: from a prompt without echo, or from an owner-only file; never from the command line,
seen by all.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import read_private

# The key file's own format stretches a passphrase little (PBKDF2, 2048 rounds), so its length has
# to carry it.
SHORTEST = 12
OPTION = "--passphrase-file"
_STANDARD_INPUT = Path("-")
_LONGEST = 1024
_CREDENTIAL_BYTES = 64


def add_passphrase_option(parser: argparse._ActionsContainer) -> None:
    """Add `--passphrase-file FILE`, common to all commands that sign."""
    parser.add_argument(
        OPTION,
        type=Path,
        metavar="FILE",
        help="read the authority's passphrase from FILE, which only you may read (-: standard "
        "input); default: ask",
    )


def passphrase_source(
    file: Path | None,
    what: str = "Passphrase of the certificate authority",
    option: str = OPTION,
) -> Callable[[], bytes]:
    """Return what `Authority.open` takes as a passphrase: it reads `file`, which `option` names, or
    asks, once an encrypted key needs it.
    """
    return lambda: _read(file) if file else _ask(what, option)


def new_passphrase(file: Path | None, what: str, option: str = OPTION) -> bytes:
    """Read a new passphrase from `file`, which `option` names, or ask for it twice.

    Raise FatalError when it is too short.
    """
    chosen = (
        _read(file)
        if file
        else _ask(f"New passphrase for {what} ({SHORTEST} characters or more)", option)
    )
    if len(chosen.decode(errors="replace")) < SHORTEST:
        raise FatalError(
            f"the passphrase is too short: use {SHORTEST} characters or more (four random words "
            f"will do)"
        )
    if not file and _ask("The same again", option) != chosen:
        raise FatalError("the two passphrases differ: try again")
    return chosen


def _ask(what: str, option: str) -> bytes:
    with warnings.catch_warnings():
        # refuse a prompt that would show what is typed
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"{what}: ").encode()
        except getpass.GetPassWarning as error:
            raise FatalError(
                f"{what}: there is no terminal to ask for it, so give {option} FILE (- for "
                f"standard input)"
            ) from error
        except EOFError as error:  # Ctrl-D
            print(file=sys.stderr)  # behind the prompt
            raise FatalError("nothing was entered, so nothing was done") from error


def _read(file: Path) -> bytes:
    content = sys.stdin.buffer.readline(_LONGEST) if file == _STANDARD_INPUT else read_private(file)
    passphrase = content.removesuffix(b"\n").removesuffix(b"\r")
    if _is_credential(content):
        raise FatalError(
            f"{file} is encrypted by systemd-creds, for LoadCredentialEncrypted= of a unit: sudo "
            f"systemd-creds decrypt {shlex.quote(str(file))} - shows what is in it, and FILE can "
            f"be -, for standard input"
        )
    if not passphrase or len(content) >= _LONGEST or b"\n" in passphrase:
        raise FatalError(
            f"{'standard input' if file == _STANDARD_INPUT else file} must hold one line, the "
            f"secret alone"
        )
    return passphrase


def _is_credential(content: bytes) -> bool:
    """Return True for what `systemd-creds encrypt` writes: lines of Base64, of at least the id of
    its kind, lengths, a nonce and a tag.
    """
    lines = content.split()
    if len(lines) < 2 or len(lines) != len(content.splitlines()):
        return False
    try:
        return len(base64.b64decode(b"".join(lines), validate=True)) >= _CREDENTIAL_BYTES
    except ValueError:
        return False
