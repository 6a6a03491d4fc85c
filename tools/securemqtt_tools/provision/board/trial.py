"""The user's own program on a board: compiled here before anything is touched, put in the place of
the old one, which is kept, and watched for its first seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from securemqtt.platform import escaped
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import read_foreign
from securemqtt_tools.provision.board import files
from securemqtt_tools.provision.board.compiler import Compiler
from securemqtt_tools.provision.board.deploy import Plan, carry_out
from securemqtt_tools.provision.board.files import sha256
from securemqtt_tools.provision.board.repl import SOFT_REBOOT, Board
from securemqtt_tools.provision.steps import Step, Steps

MAIN = "/main.py"
# The program before: it comes back when the new one dies, and stays here when that lives.
OLD_MAIN = "/main.py.old"
# The one before that, which then comes back to `OLD_MAIN`: nobody knows whether the program that a
# new one replaces has ever lived, as its trial may have been cut short.
_OLDER_MAIN = "/main.py.older"
# The one before that: stays here when the new program lives, as nobody interrupts that then, and is
# given up for the next.
_OLDEST_MAIN = "/main.py.oldest"
_PLACES = (MAIN, OLD_MAIN, _OLDER_MAIN, _OLDEST_MAIN)
# A program has imported what it needs and made its client by then; Wi-Fi it may still be joining.
_FIRST_SECONDS = 10
_PROMPT = b'Type "help()" for more information.\r\n'
_TRACEBACK = "Traceback (most recent call last):"


class UserProgram(NamedTuple):
    """A program for a board: its file's name here, and its content."""

    name: str
    content: bytes


def read_program(path: Path, cache: Path, arch: str) -> UserProgram:
    """Read a program, and see that it compiles for a board of this architecture; FatalError if it
    does not.
    """
    content = read_foreign(path)
    complaint = Compiler(cache).complaint(content, path.name, arch)
    if complaint:
        raise FatalError(f"{path} is not put on the board: {escaped(complaint)}")
    return UserProgram(path.name, content)


def try_program(board: Board, program: UserProgram, steps: Steps, hold: Callable[[], None]) -> None:
    """Put a program on a board as its main.py, if it is not there yet, start it, and see it live
    for its first seconds.

    Raise FatalError if it dies, once its traceback was shown; then the one before is there again,
    and so it is when Ctrl-C ends this: `hold` puts off further ones.
    """
    with steps.step("Program") as step:
        held = files.hashes(board, _PLACES)
        new = sha256(program.content)
        try:
            if held[MAIN] != new:
                keeps = {MAIN: _kept(held)} if held[MAIN] else {}
                carry_out(board, Plan({MAIN: program.content}), step.advance, keeps)
            old = held[MAIN] not in (None, new) or held[OLD_MAIN] is not None
            _watch(board, program, step, steps, hold)
        except KeyboardInterrupt:
            hold()
            if held[MAIN] != new:
                steps.say(f"  {program.name} was not watched to the end: {_undone(board, new)}")
            raise
        if old:
            step.note += f"; the one before is {OLD_MAIN}"


def _kept(held: Mapping[str, str | None]) -> list[str]:
    """Return the names that the programs which are there without a gap move on to."""
    names: list[str] = []
    for place, further in pairwise(_PLACES):
        if held[place] is None:
            break
        names.append(further)
    return names


def _watch(
    board: Board, program: UserProgram, step: Step, steps: Steps, hold: Callable[[], None]
) -> None:
    began = time.monotonic()
    board.start_program()
    printed, there = board.printed((_PROMPT, SOFT_REBOOT), _FIRST_SECONDS)
    after = f"after {time.monotonic() - began:.1f} s"
    ended, restarted = printed.endswith(_PROMPT), printed.endswith(SOFT_REBOOT)
    traceback = _traceback(printed, ended) if ended or restarted or not there else []
    if there and not ended and not restarted:
        step.note = f"it lives {after}"
        return
    if not traceback and not restarted:
        step.note = (
            f"it ended {after}, without an error"
            if there
            else f"the board left the line {after}: it sleeps, or is being reset"
        )
        return
    step.note = f"it died {after}"
    for line in traceback:
        steps.say(f"  {escaped(line)}")
    why = _error(traceback) if traceback else "it restarts the board, and so without an end"
    hold()
    state = _undone(board, sha256(program.content), restarted) if there else "it is still there"
    raise FatalError(f"{program.name} died {after} on the board ({why}): {state}")


def _traceback(printed: bytes, ended: bool) -> list[str]:
    """Return the lines of the last traceback in what a program has printed until its end."""
    lines = printed.decode(errors="replace").splitlines()
    if _TRACEBACK not in lines:
        return []
    start = len(lines) - 1 - lines[::-1].index(_TRACEBACK)
    # behind it come the prompt's banner of two lines, or one that tells of the reset
    return lines[start : -2 if ended else -1]


def _error(traceback: list[str]) -> str:
    """Return what the traceback ends with: behind the places, the error in a line or more."""
    return escaped(next((line for line in traceback[1:] if line[:2] != "  "), traceback[-1]))


def _undone(board: Board, new: str, restarts: bool = False) -> str:
    """Take a program off the board again, by its hash; return in words what is there now."""
    try:
        board.recover(insist=restarts)
        return _put_back(board, new)
    except FatalError as error:
        return f"it is still there, since it could not be taken off: {error}"


def _put_back(board: Board, new: str) -> str:
    held = files.hashes(board, _PLACES)
    if held[MAIN] not in (None, new):
        return "the program before is still there"
    if held[OLD_MAIN] is None:
        files.remove(board, [MAIN])
        return "it is off the board again, which has no program now"
    for place, further in pairwise(_PLACES):
        if held[further] is None:
            break
        files.rename(board, further, place)
    if held[_OLDER_MAIN] is None:
        return "the program before is back"
    return f"the program before is back, and the one before that is {OLD_MAIN}"
