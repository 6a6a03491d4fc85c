"""The files on a board: hashed there, read, written whole or not at all, renamed, removed."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from securemqtt_tools.provision.board import answers
from securemqtt_tools.provision.board.repl import Board, BoardError

# New content is written beside its place under this ending, checked, and renamed.
PART = ".new"
# Bytes sent at a time: 4 kB of text on the board, which the smallest heap in boards/ has room for.
_CHUNK_BYTES = 3072


def hashes(board: Board, paths: Iterable[str]) -> dict[str, str | None]:
    """Return the SHA-256 of files in hex, computed on the board; None for one that is not
    there.
    """
    names = list(paths)
    script = f"for p in {names!r}:print(json.dumps(_h(p)))"
    digests = board.query_lines(script, answers.digest, len(names), 60)
    return dict(zip(names, digests, strict=True))


def tree(board: Board, directory: str) -> dict[str, str | None]:
    """Return path and SHA-256 of every file under a directory; nothing when it is not there."""
    # A line for each, as the whole in one string takes more than some heaps have in one piece.
    script = f"for p in _t({directory!r}):print(json.dumps((p,_h(p))))"
    return dict(board.query_lines(script, answers.path_and_digest, timeout_s=60))


def read(board: Board, path: str) -> bytes:
    """Return the content of a small file that holds no secret."""
    return board.query(
        f"with open({path!r},'rb') as f:print(json.dumps(binascii.hexlify(f.read()).decode()))",
        answers.content,
    )


def write(
    board: Board,
    path: str,
    content: bytes | bytearray,
    moved: Callable[[int], None] = lambda count: None,
    keep: Sequence[str] = (),
) -> None:
    """Write a file: whole, checked by its hash on the board, then renamed into its place.

    What is there is renamed to the first name in `keep` before, what has that name to the second,
    and so on: all but the last are there.
    `moved` is told how many bytes were sent, each time. A full flash raises BoardError with
    errno 28; no part of the file is left behind then.
    """
    part = path + PART
    begin, end = f"_f=open({part!r},'wb')\n", f"_f.close()\nprint(json.dumps(_h({part!r})))\n"
    try:
        for start in range(0, len(content) or 1, _CHUNK_BYTES):
            chunk = content[start : start + _CHUNK_BYTES]
            text = binascii.b2a_base64(chunk, newline=False).decode()
            script = f"{begin}_w('{text}')\n"
            if start + _CHUNK_BYTES < len(content):
                board.run(script)
            else:
                digest = board.query(script + end, answers.digest)
            begin = ""
            moved(len(chunk))
    except BoardError:
        board.run(f"try:_f.close()\nexcept (NameError,OSError):pass\n_rm({part!r})")
        raise
    if digest != sha256(content):
        remove(board, [part])
        raise BoardError(
            f"{path} arrived damaged at {board.port}: check the cable and run the same command "
            f"again"
        )
    names = (part, path, *keep)
    board.run("\n".join(f"_mv({old!r},{new!r})" for old, new in reversed([*pairwise(names)])))


def rename(board: Board, path: str, name: str) -> None:
    """Give a file another name; one that has that name is replaced."""
    board.run(f"_mv({path!r},{name!r})")


def make_directories(board: Board, paths: Iterable[str]) -> None:
    """Make directories, and those that they are in, where they are missing."""
    wanted = {part for path in paths for part in _ancestors(path)}
    if wanted:
        board.run(
            f"for p in {sorted(wanted)!r}:\n try:os.mkdir(p)\n except OSError as e:\n  if "
            f"e.errno!=17:raise"
        )


def remove(board: Board, paths: Iterable[str]) -> None:
    """Remove files, if they are there."""
    names = list(paths)
    if names:
        board.run(f"for p in {names!r}:_rm(p)")


def sha256(content: bytes | bytearray) -> str:
    """Return the SHA-256 in hex, as `hashes` has it."""
    return hashlib.sha256(content).hexdigest()


def _ancestors(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
