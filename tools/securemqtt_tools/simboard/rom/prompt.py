"""The prompt, for interpreters whose own has no raw REPL: MicroPython for Linux before 1.27.

It speaks what MicroPython's documentation calls the raw REPL and raw-paste mode, and a friendly
prompt without history.
"""

import io
import sys

import micropython
import wire

_CTRL_A = 1
_CTRL_B = 2
_CTRL_C = 3
_CTRL_D = 4
_CTRL_E = 5
_RETURN = 13
_ESCAPE = 27
_SPACE = 32
_ERASE = (8, 127)
_PASTE_FOLLOWS = b"\x05A"
_WINDOW = 128
_COMPOUND = ("if", "while", "for", "try", "with", "def", "class", "async")


class Prompt:
    """Reads statements and programs from standard input and runs them in `namespace`, for ever."""

    def __init__(self, namespace):
        self._namespace = namespace
        self._raw = False

    def run(self):
        while True:
            if self._raw:
                self._raw_session()
            else:
                self._friendly_session()

    def _raw_session(self):
        _write(b"raw REPL; CTRL-B to exit\r\n>")
        program = bytearray()
        while True:
            key = _read()
            if key == _CTRL_A:
                if program != _PASTE_FOLLOWS:
                    return
                self._execute(_read_paste(), False)
            elif key == _CTRL_B:
                self._raw = False
                _write(b"\r\n")
                return
            elif key == _CTRL_D:
                _write(b"OK")
                if not program:
                    _soft_reset()
                self._execute(program, False)
            elif key != _CTRL_C:
                program.append(key)
                continue
            program = bytearray()
            if key != _CTRL_C:
                _write(b">")

    def _friendly_session(self):
        print("%s; %s" % (sys.version.split("; ")[-1], sys.implementation._machine))  # noqa: SLF001  (of MicroPython's own)
        _write(b'Type "help()" for more information.\r\n')
        while not self._raw:
            _write(b">>> ")
            statement = bytearray()
            key = _read_line(statement)
            while key == _RETURN and _goes_on(statement):
                statement.extend(b"\n")
                _write(b"... ")
                key = _read_line(statement)
            if key == _RETURN and statement:
                self._execute(statement, True)
            elif key == _CTRL_D:
                _soft_reset()
            elif key == _CTRL_E:
                self._execute_pasted()
            elif key == _CTRL_B:
                return
            self._raw = key == _CTRL_A

    def _execute_pasted(self):
        _write(b"paste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n=== ")
        program = bytearray()
        while True:
            key = _read()
            if key in (_CTRL_C, _CTRL_D):
                break
            program.append(10 if key == _RETURN else key)
            _write(b"\r\n=== " if key == _RETURN else bytes((key,)))
        _write(b"\r\n")
        if key == _CTRL_D:
            self._execute(program, True)

    def _execute(self, program, friendly):
        """Run a program; in the raw REPL the ends of its output and of its traceback are marked."""
        end = b"" if friendly else b"\x04"
        try:
            if program is None:
                raise KeyboardInterrupt
            code = compile(str(program, "utf-8"), "<stdin>", "single" if friendly else "exec")
            micropython.kbd_intr(3)
            exec(code, self._namespace)  # noqa: S102  (what a prompt is for)
            micropython.kbd_intr(-1)
            _write(end)
        except SystemExit:
            _soft_reset()
        except BaseException as error:
            micropython.kbd_intr(-1)
            _write(end)
            _print_traceback(error)
        _write(end)


def _read():
    key = sys.stdin.buffer.read(1)
    if not key:
        _soft_reset()
    return key[0]


def _read_line(line):
    """Read a line, with its echo, to the end of `line`; return the key that ended it: Return or a
    control character.
    """
    start = len(line)
    while True:
        key = _read()
        if key in (_RETURN, _CTRL_A, _CTRL_B, _CTRL_C, _CTRL_E) or (key == _CTRL_D and not line):
            _write(b"\r\n")
            return key
        if key in _ERASE:
            if len(line) > start:
                line[:] = line[:-1]
                _write(b"\b \b")
        elif key == _ESCAPE:
            _read()
            _read()
        elif key >= _SPACE:
            line.append(key)
            _write(bytes((key,)))


def _read_paste():
    """Read a program in raw-paste mode, with its flow control; None if Ctrl-C cancelled it."""
    _write(b"R\x01" + bytes((_WINDOW, 0)) + b"\x01")
    program = bytearray()
    while True:
        key = _read()
        if key in (_CTRL_C, _CTRL_D):
            _write(b"\x04")
            return program if key == _CTRL_D else None
        program.append(key)
        if len(program) % _WINDOW == 0:
            _write(b"\x01")


def _goes_on(statement):
    """Return True if a statement needs more lines: open brackets, or a compound one that no empty
    line has ended.
    """
    text = str(statement, "utf-8")
    brackets = 0
    for character in text:
        if character in "([{":
            brackets += 1
        elif character in ")]}":
            brackets -= 1
    if brackets > 0 or text.endswith("\\"):
        return True
    compound = text.startswith("@") or text.split(" ")[0].rstrip(":") in _COMPOUND
    return compound and not text.endswith("\n")


def _write(text):
    sys.stdout.buffer.write(text)


def _print_traceback(error):
    """Print a traceback without this module's own lines."""
    text = io.StringIO()
    sys.print_exception(error, text)
    for line in text.getvalue().split("\n")[:-1]:
        if "/prompt.py" not in line:
            print(line)


def _soft_reset():
    _write(b"\r\n")
    wire.stop("soft_reset")
