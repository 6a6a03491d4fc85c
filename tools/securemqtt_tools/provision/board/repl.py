"""A board on a serial line, by way of mpremote: reach its raw REPL, run scripts there, and leave it
to its own program. All talk to it is here.

What is sent is never logged and never passes through a file or a command line of the host: it may
be a private key.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

from mpremote.transport import TransportError  # type: ignore[import-untyped]
from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]

from securemqtt.log import printable
from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board.answers import Meaning, SenselessError, Shape, parsed
from securemqtt_tools.provision.board.line import DeadlineLine, OverdueError
from securemqtt_tools.provision.board.ports import check_port, deafness, refusal

# A board that says nothing for so long is gone; compiling or erasing a block of flash takes far
# less.
SILENCE_S = 10
# A board may also talk without an end: so much longer than it may be silent may an answer take.
# With the restart that follows it is a minute.
_TALK_S = 40
_RESET_S = 60
# Ctrl-C is tried so often, for so long each. A program may be looking up a name meanwhile, which
# nothing interrupts.
_ATTEMPTS = 6
_ATTEMPT_S = 2.5
_ATTEMPT_LIMIT_S = 4
_INSISTED_S = 8
_INSISTENCE_S = 0.002
_PROMPT = b">>> "
_QUIET_S = 0.5
# A board that prints so often, each time within so long, though nobody has asked it anything, has a
# thread or a timer that talks; a sensor is often read once a second.
_REMARKS = 3
_REMARK_S = 1.2
_CTRL_C_S = 0.1
SOFT_REBOOT = b"soft reboot\r\n"
_PRINTED_BYTES = 16 * 1024

# Defined on every fresh heap: what the scripts of `files.py` and others call, and the modules that
# they use. `_t` gives every file under a directory.
_HELPERS = """\
import os,hashlib,binascii,json
def _h(p):
 h=hashlib.sha256();b=bytearray(512);m=memoryview(b)
 try:
  with open(p,'rb') as f:
   while 1:
    n=f.readinto(b)
    if not n:break
    h.update(m[:n])
 except OSError as e:
  if e.errno not in (2,20,21):raise
  return None
 return binascii.hexlify(h.digest()).decode()
def _t(d):
 try:l=list(os.ilistdir(d))
 except OSError:return []
 r=[]
 for e in l:
  p=d+'/'+e[0]
  if e[1]&0x4000:r+=_t(p)
  else:r.append(p)
 return r
def _rm(p):
 try:os.remove(p)
 except OSError as e:
  if e.errno!=2:raise
def _mv(a,b):
 try:os.rename(a,b)
 except OSError:
  _rm(b);os.rename(a,b)
def _w(s):_f.write(binascii.a2b_base64(s))
"""

# What each further Ctrl-C is answered with.
GIVING_BACK = "the board is being given back: this takes a moment, at most some minutes"
_GONE = "plug it in and run the same command again: it goes on where this one stopped"


class BoardError(FatalError):
    """A script failed on the board; `errno` is the number of its OSError, if it was one."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class Board:
    """A board whose program is interrupted and whose raw REPL is ours.

    Any method raises FatalError when it goes away, and when it does not come to an end.
    """

    def __init__(self, port: str, family: str = "") -> None:
        """Open `port` and interrupt what runs; FatalError when it is in use, or when nothing
        answers as MicroPython does within 24 s.

        `family` is that of the board's profile, if it is known: the error has the remedy for it.
        """
        self.port = port
        self.runs_program = False  # the board's own, which `start_program` has started
        self._family = family
        check_port(port)
        try:
            # mpremote knows a pty by name
            self._transport = SerialTransport(os.path.realpath(port), timeout=SILENCE_S)
        except TransportError as error:
            raise refusal(port) from error
        self._line = DeadlineLine(self._transport.serial)
        self._line.write_timeout = SILENCE_S
        self._transport.serial = self._line
        try:
            self._interrupt()
            self.run(_HELPERS)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                with contextlib.suppress(FatalError):  # its program may have ended already
                    self.start_program(interrupt=True)
            self.close()
            raise

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the port."""
        with contextlib.suppress(OSError, termios.error):  # a board that is gone already
            self._transport.close()

    def run(self, script: str, timeout_s: float = SILENCE_S) -> str:
        """Run a script and return what it printed; BoardError when it raised.

        It may be silent for `timeout_s`, and talk for 40 s more.
        """
        with self._answering(timeout_s + _TALK_S):
            out, err = self._transport.exec_raw(script, timeout=timeout_s)
        if err:
            raise _board_error(err.decode(errors="replace"))
        return str(out.decode(errors="replace"))

    def follow(
        self, script: str, heard: Callable[[str], str | None], deadline_s: float
    ) -> str | None:
        """Run a script, give each line that it prints to `heard`, and what that returns to the
        script, as a line of its standard input.

        Return the traceback that it ended with, an empty text if it ended well, and None if it was
        not at its end in time; it is interrupted then. Raise FatalError when the board goes away.
        """
        end = time.monotonic() + deadline_s
        line = bytearray()

        def consume(data: bytes) -> None:
            if data != b"\n":
                line.extend(data)
                return
            answer = heard(line.decode(errors="replace").rstrip("\r"))
            line.clear()
            if answer is not None:
                self._transport.serial.write(answer.encode() + b"\n")

        with self._answering(deadline_s + _TALK_S):
            self._transport.exec_raw_no_follow(script)
            try:
                with self._line.within(deadline_s):
                    _, err = self._transport.follow(deadline_s, consume)
            except TransportError:
                if time.monotonic() < end:
                    raise
            else:
                return str(err.decode(errors="replace"))
        self.recover()
        return None

    def recover(self, insist: bool = False) -> None:
        """Interrupt what runs, and have the raw REPL again, with a fresh heap.

        `insist` sends Ctrl-C without pause until there is a prompt: for a program of a moment that
        restarts the board again and again, and not for one that may want to tidy up.
        """
        if insist:
            self._insist()
        self._interrupt()
        self.soft_reset()

    def query(self, script: str, shape: Shape[Meaning], timeout_s: float = SILENCE_S) -> Meaning:
        """Run a script whose last line of output is JSON, and return what that says, in the shape
        that is asked for.
        """
        return self._meaning(self.run(script, timeout_s).strip().splitlines()[-1:], shape, 1)[0]

    def query_lines(
        self,
        script: str,
        shape: Shape[Meaning],
        count: int | None = None,
        timeout_s: float = SILENCE_S,
    ) -> list[Meaning]:
        """Run a script that prints JSON in each line, and return what the lines say; `count` is how
        many there are, where that is known.
        """
        return self._meaning(self.run(script, timeout_s).splitlines(), shape, count)

    @contextlib.contextmanager
    def mpremote(self, limit_s: float) -> Iterator[Any]:
        """Give mpremote's transport to its own code for a block, which must end within `limit_s`.
        Raise FatalError.
        """
        with self._answering(limit_s), contextlib.redirect_stdout(io.StringIO()):
            yield self._transport

    def soft_reset(self) -> None:
        """Give the board a fresh heap: `boot.py` runs, `main.py` does not, and the raw REPL is
        ours again.
        """
        with self._answering(_RESET_S), contextlib.redirect_stdout(io.StringIO()):
            self._transport.enter_raw_repl(soft_reset=True, timeout_overall=30)
        self.run(_HELPERS)

    def start_program(self, interrupt: bool = False) -> None:
        """Restart the board's software: `boot.py` runs, then `main.py`, and the raw REPL is no
        longer ours.

        `interrupt` ends a script of ours first that may still be running, or be half sent.
        """
        with self._answering(SILENCE_S if interrupt else _RESET_S):
            if interrupt:
                self._press_ctrl_c()
            self._transport.exit_raw_repl()
            self._transport.serial.write(b"\x04")
            self._transport.read_until(1, SOFT_REBOOT, timeout=SILENCE_S)
        self.runs_program = True

    def printed(self, until: tuple[bytes, ...], limit_s: float) -> tuple[bytes, bool]:
        """Return what the board prints in the next `limit_s`, or until it has printed one of
        `until`: the last 16 kB. False with it if the board left the line meanwhile.
        """
        said = bytearray()
        end = time.monotonic() + limit_s
        try:
            self._line.timeout = _QUIET_S
            while time.monotonic() < end and not said.endswith(until):
                said += self._line.read(1)
                del said[:-_PRINTED_BYTES]
        except (OSError, termios.error):
            return bytes(said), False
        with self._answering():
            self._line.timeout = SILENCE_S
        return bytes(said), True

    def _meaning(self, lines: list[str], shape: Shape[Meaning], count: int | None) -> list[Meaning]:
        try:
            if count not in (None, len(lines)):
                raise SenselessError(f"{len(lines)} lines")
            return [parsed(line, shape) for line in lines]
        except SenselessError as error:
            if self._talks():
                raise self._endless() from error
            raise BoardError(
                f"the board at {self.port} gave no sensible answer: reset it and try again"
            ) from error

    def _talks(self) -> bool:
        """Return True if the board prints though nobody has asked it anything."""
        remarks = 0
        with contextlib.suppress(TransportError, OSError, termios.error):
            self._line.timeout = _REMARK_S
            for _ in range(_REMARKS):
                self._line.read(self._line.inWaiting())
                remarks += len(self._line.read(1))
            self._line.timeout = SILENCE_S
        return remarks == _REMARKS

    def _endless(self) -> FatalError:
        return FatalError(
            f"the board at {self.port} talks without an end: press its reset button and run the "
            "same command again"
        )

    def _press_ctrl_c(self) -> None:
        for _ in range(2):
            self._transport.serial.write(b"\r\x03")
            time.sleep(_CTRL_C_S)

    def _insist(self) -> None:
        said, end = b"", time.monotonic() + _INSISTED_S
        with self._answering():
            while time.monotonic() < end and _PROMPT not in said:
                self._line.write(b"\x03")
                time.sleep(_INSISTENCE_S)
                said = said[-len(_PROMPT) :] + self._line.read(self._line.inWaiting())

    def _interrupt(self) -> None:
        """Reach the raw REPL: several times Ctrl-C, since boot.py takes the first, and a program
        may tidy up before it ends.
        """
        before = self._line.received_bytes
        with self._answering():
            self._line.timeout = _QUIET_S
        for attempt in range(1, _ATTEMPTS + 1):
            with self._answering(), contextlib.suppress(TransportError):
                with self._line.within(_ATTEMPT_LIMIT_S):
                    self._enter_raw_repl(again=attempt > 1)
                self._line.timeout = SILENCE_S
                self.runs_program = False
                return
        raise deafness(self.port, self._family, self._line.received_bytes > before)

    def _enter_raw_repl(self, again: bool) -> None:
        """Ask for the raw REPL; TransportError if it does not come."""
        self._press_ctrl_c()
        # mpremote prints what it could not understand
        with contextlib.redirect_stdout(io.StringIO()):
            self._transport.enter_raw_repl(soft_reset=False, timeout_overall=_ATTEMPT_S)
        # each attempt is answered in the end: wait for the last prompt, then ask for a fresh one
        if again:
            self._transport.read_until(1, b"\x04", timeout=_QUIET_S)
            self._transport.serial.write(b"\r\x01")
            self._transport.read_until(1, b"raw REPL; CTRL-B to exit\r\n", timeout=_ATTEMPT_S)

    @contextlib.contextmanager
    def _answering(self, limit_s: float = _RESET_S) -> Iterator[None]:
        """Have what the block waits for end within `limit_s`. Raise FatalError."""
        try:
            with self._line.within(limit_s):
                yield
        except OverdueError as error:
            raise self._endless() from error
        except (TransportError, OSError, struct.error, termios.error) as error:
            if isinstance(error, TransportError) and self._talks():
                raise self._endless() from error
            raise FatalError(
                f"the board at {self.port} went away or stopped answering: {_GONE}"
            ) from error


def _board_error(traceback: str) -> BoardError:
    last = traceback.strip().splitlines()[-1] if traceback.strip() else "it said nothing"
    name, _, detail = last.partition(": ")
    number = detail.removeprefix("[Errno ").split("]")[0].split(",")[0].split(" ")[0]
    errno = int(number) if name == "OSError" and number.isdigit() else None
    if name == "MemoryError":
        return BoardError("the board ran out of memory: press its reset button and try again")
    return BoardError(
        f"a script failed on the board ({printable(last)}): reset it and run the same command "
        "again",
        errno,
    )
