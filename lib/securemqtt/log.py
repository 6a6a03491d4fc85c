"""The log: one line per thing worth knowing, to the function that `log_to` set and beyond.

Beyond is the standard `logging` on CPython, always; on a board `print`, where no function is set.
"""

from .platform import const, emit, escaped, report_exception, thread_id

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable

_function: "Callable[[str, str], None] | None" = None
_inside: "list[int]" = []  # the threads in which it runs


def log_to(function: "Callable[[str, str], None] | None") -> None:
    """Have `function(level, text)` called for each line of the log, in place of the one before.

    `level` is debug, info, warning or error. None: have none called any more. The function is
    called in the thread that has something to say, on CPython most often the client's own; so it
    must be quick; what it raises is reported, and nothing else comes of it. What is logged while it
    runs, by what it calls, goes beyond only. On a board it takes the place of `print`. Raise
    UsageError for what is no function.
    """
    global _function
    if function is not None and not callable(function):
        from .errors import UsageError

        raise UsageError("log_to takes a function or None, not " + quoted(function))
    _function = function


def log(level: str, text: str) -> None:
    """Log a line; `level` is debug, info, warning or error. The text is escaped."""
    text = escaped(text)
    function = None if thread_id() in _inside else _function
    emit(level, text, function is not None)
    if function is not None:
        _call(function, level, text)


def log_exception(error: Exception) -> None:
    """Log that a function of the user's has failed, with its traceback where that can be shown."""
    report_exception(error)
    if _function is not None and thread_id() not in _inside:
        _call(_function, "error", "a handler failed: " + printable(repr(error)))


def _call(function: "Callable[[str, str], None]", level: str, text: str) -> None:
    """Have the user's function have a line; what it raises is reported.

    It may publish the line, which may have something to be logged in turn: for that it is not
    called again, or there would be no end to it.
    """
    thread = thread_id()
    _inside.append(thread)
    try:
        function(level, text)
    except Exception as error:  # noqa: BLE001  (a user's function may raise anything)
        report_exception(error)
    finally:
        _inside.remove(thread)


def printable(text: str, characters: int = 200) -> str:
    """Return what an outsider wrote, such as a topic, as it may be printed: in one line, and cut if
    it is longer than so many characters.

    Escaped is what moves a terminal's cursor (line breaks, escape sequences), turns the direction
    of writing, or cannot be seen.
    """
    return escaped(text) if len(text) <= characters else escaped(text[:characters]) + "…"


def quoted(value: object) -> str:
    """Return a value as a message to people shows it, in one line of at most some 100 characters.

    Text is quoted, escaped and cut; of what is neither text nor a number, only the class is told.
    """
    if isinstance(value, (str, bytes)):
        shown = repr(value[:60])
        return shown if len(value) <= 60 else "{}… ({} in all)".format(shown, len(value))
    if isinstance(value, int) and not -1 << 64 < value < 1 << 64:
        return "an int beyond 64 bits"  # to write it out may take for ever
    if value is None or isinstance(value, (bool, int, float)):  # MicroPython's bool is no int
        return repr(value)
    name = type(value).__name__
    return ("an " if name[:1] in "aeiouAEIOU" else "a ") + name
