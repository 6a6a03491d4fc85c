"""Write docs/options.md and lib/securemqtt/options.py (`ClientOptions`) from the schema of the
options. A test sees to it that both are true.

python tests/support/documents/options_page.py
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import Any

from securemqtt.platform import cpython
from securemqtt.schema import OPTIONS, in_words

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "lib" / "securemqtt"
PAGE = ROOT / "docs" / "options.md"
MODULE = LIBRARY / "options.py"
_ANNOTATIONS = {
    "id": "str",
    "topic": "str",
    "hosts": "str | Sequence[str]",
    "name": "str",
    "text": "str",
    "secret": "str",
    "whole": "int",
    "seconds": "float",
    "flag": "bool",
    "path": "str | PathLike[str]",
    "paths": "str | PathLike[str] | Sequence[str | PathLike[str]]",
    "protocols": "str | Sequence[str]",
    "filters": "Sequence[str]",
    "opener": "str | bytes | Callable[[], str | bytes]",
    "will": "tuple[str, object] | tuple[str, object, int] | tuple[str, object, int, bool]",
    "feeder": "Feeder",
}
_PAGE = """# Options

In the bundle's `config.json` or as arguments of `Client`, which win. Where a default is none,
`None` (in JSON `null`) is none, too. A value of another type, or out of its range, is a
`UsageError` that says what is allowed, on a computer and on a board alike. So is an option that
does not exist; the error names the one that was most likely meant. `config.json` may have keys of
an application's own beside these. A file's name is relative to the bundle, also where the program
gives it, and never to the current directory, which under systemd is another one than in a shell;
only a program without a bundle has its certificates' names relative to that. It may be a
`pathlib.Path`.

| option | default | may be | what it is for |
|---|---|---|---|
{rows}
On a computer `help(securemqtt.ClientOptions)` shows them, and type checkers know them:
`Client(hots="x")` is an error of mypy's.

Durations in the calls of `Client` are seconds, as int or float; NaN, infinity and more than
1,000,000,000 are a `UsageError`. One below 0 has passed already and counts as 0, so that
`client.wait(next_reading - time.time())` may come late.

`tests/support/documents/options_page.py` writes this page and `ClientOptions` from
`lib/securemqtt/schema.py`, and a test keeps them true.
"""
_MODULE = '''\
"""`ClientOptions`: the options of a client, for type checkers and `help` on a computer.

Written from schema.py by tests/support/documents/options_page.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Literal, Protocol, TypedDict


class Feeder(Protocol):
    """A watchdog, such as machine.WDT."""

    def feed(self) -> object:
        """Have it wait again."""


class ClientOptions(TypedDict, total=False):
    """What `Client` takes beside the bundle; each may also be in the bundle's config.json.

{help}
    """

{fields}'''


def page() -> str:
    """Return the content of docs/options.md."""
    rows = ""
    for name, kind, default, allowed, unit, purpose in OPTIONS:
        words = in_words(kind, allowed, unit)
        rows += f"| `{name}` | {_default(name, default)} | {words} | {_page_purpose(purpose)} |\n"
    return _PAGE.format(rows=rows)


def module() -> str:
    """Return the content of lib/securemqtt/options.py."""
    entries = []
    fields = ""
    for name, kind, default, allowed, unit, purpose in OPTIONS:
        words = f"{name}: {purpose} ({in_words(kind, allowed, unit)}; default "
        entries.append(
            textwrap.fill(
                words + _default(name, default).replace("`", "") + ")",
                width=100,
                initial_indent="    ",
                subsequent_indent="        ",
            )
        )
        fields += _field(name, kind, default, allowed)
    return _MODULE.format(help="\n".join(entries), fields=fields)


def _field(name: str, kind: str, default: Any, allowed: Any) -> str:
    annotation = _ANNOTATIONS.get(kind) or "Literal[" + ", ".join(f'"{one}"' for one in allowed)
    if kind == "choice":
        annotation += "]"
    if default is None:
        annotation += " | None"
    line = f"    {name}: {annotation}\n"
    if len(line) <= 101:
        return line
    inner = annotation.replace(" | tuple", "\n        | tuple").replace(
        " | None", "\n        | None"
    )
    return f"    {name}: (\n        {inner}\n    )\n"


def _default(name: str, default: Any) -> str:
    """Return a default as the page has it, with a board's own where that differs."""
    if default is None or default == () or default == "":
        return "none"
    own = name.upper()
    if hasattr(cpython, own):
        return f"{default}; {_on_a_board(own)} on a board"
    return f'`"{default}"`' if isinstance(default, str) else f"{default}"


def _on_a_board(constant: str) -> int:
    source = (LIBRARY / "platform" / "micropython.py").read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == constant:
            return int(ast.literal_eval(node.value))
    raise LookupError(constant)


def _page_purpose(purpose: str) -> str:
    return purpose.replace("docs/outbox.md", "[outbox](outbox.md)")


if __name__ == "__main__":
    PAGE.write_text(page())
    MODULE.write_text(module())
