"""The structure of the library: what docs/ARCHITECTURE.md promises of it, read from the source."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt_tools.provision.board.library import board_sources

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "lib" / "securemqtt"
TOOLS = ROOT / "tools" / "securemqtt_tools"
# Lies in the same package, and is no part of a device's house: it is for tests of programs, on
# CPython. Nothing in the house may know of it.
ANNEXE = LIBRARY / "testing"
# Each part imports only from those that come behind it.
PARTS = (
    "aio",
    "client",
    "face",
    "queues",
    "driver",
    "connection",
    "admission",
    "lifecycle",
    "inbox",
    "early",
    "outbox",
    "transport",
    "board",
    "diagnosis",
    "tls",
    "config",
    "presets",
    "schema",
    "options",
    "bundle",
    "process",
    "arguments",
    "settings",
    "hosts",
    "limits",
    "protocol",
    "messages",
    "log",
    "errors",
    "platform",
)
# Sixteen more than the design's 45. What checks a program's arguments, a board's TLS stream, what
# becomes of a message that the broker refuses (suspected, and parked), what `publish` returns for a
# message that is in a journal alone, messages that are too early, what a fork and an exit mean, and
# what clouds allow (the table, and what of it stays in memory) are ideas of their own, and would
# make their neighbours longer than one sitting. The others came with asyncio: what both faces
# share, the driver, what waits for tasks, what it waits for on each interpreter. And which of
# several brokers is tried, which most programs never load.
MODULES = 63
LINES = range(40, 401)
OTHER_LENGTHS: dict[str, str] = {}
MODULES_IN_STRINGS = {
    "platform/micropython.py": "what is not to be forgotten with the other modules",
}
# They take a name as a string.
_BY_NAME = {"getattr", "setattr", "delattr", "hasattr", "__import__", "import_module"}
_QUESTIONS = {("sys", "implementation"), ("sys", "platform"), ("os", "name")}


def _files(directory: Path = LIBRARY) -> list[str]:
    """Return a directory's modules; those of the library without the annexe."""
    return sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*.py")
        if directory == ANNEXE or ANNEXE not in path.parents
    )


def _modules(directory: Path = LIBRARY) -> list[str]:
    """Return the files of a directory without each folder's `__init__`."""
    return [file for file in _files(directory) if not file.endswith("__init__.py")]


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _name(file: str) -> str:
    """Return a module's name below the package: `outbox.memory`, `outbox` for its `__init__`, an
    empty string for the package itself.
    """
    return file.removesuffix(".py").removesuffix("__init__").replace("/", ".").rstrip(".")


def _imports(file: str) -> Iterator[str]:
    """Return the names of the library's modules that a file imports, wherever in it: at its top,
    in a function, for annotations only.
    """
    known = {_name(one) for one in _files()}
    package = ["securemqtt", *file.split("/")[:-1]]
    for node in ast.walk(_tree(LIBRARY / file)):
        if isinstance(node, ast.Import):
            named = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = above + (node.module.split(".") if node.module else [])
            named = [[*module, alias.name] for alias in node.names]
        else:
            continue
        for path in named:
            if path[0] == "securemqtt":
                name = ".".join(path[1:])
                # What is no module is something in one.
                yield name if name in known else ".".join(path[1:-1])


def _part(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def test_there_are_few_modules() -> None:
    assert len(_modules()) <= MODULES


def test_a_module_is_read_in_one_sitting() -> None:
    lines = {file: len((LIBRARY / file).read_text().splitlines()) for file in _modules()}
    unusual = {file: count for file, count in lines.items() if count not in LINES}
    assert set(unusual) == set(OTHER_LENGTHS), unusual
    annexe = {file: len((ANNEXE / file).read_text().splitlines()) for file in _modules(ANNEXE)}
    assert max(annexe.values()) in LINES, annexe


def test_each_folder_says_in_a_sentence_what_it_is_for() -> None:
    for folder in {file.rpartition("/")[0] for file in _files()} - {""}:
        said = ast.get_docstring(_tree(LIBRARY / folder / "__init__.py")) or ""
        assert re.fullmatch(r"[A-Z](?:[^.]|\.(?! |$))+\.", said), (folder, said)


def test_the_parts_are_those_that_are_there() -> None:
    assert {_part(_name(file)) for file in _files()} - {""} == set(PARTS)


@pytest.mark.parametrize("file", _files())
def test_imports_run_one_way(file: str) -> None:
    own = _part(_name(file))
    below = PARTS if own == "" else PARTS[PARTS.index(own) :]
    assert [name for name in _imports(file) if _part(name) not in below] == []


def test_nothing_in_the_house_knows_of_the_annexe() -> None:
    assert ANNEXE.is_dir()
    assert "testing" not in PARTS
    imported = {
        alias
        for file in _files()
        for node in ast.walk(_tree(LIBRARY / file))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in [getattr(node, "module", None), *(one.name for one in node.names)]
    }
    assert {name for name in imported if name and "testing" in name} == set()


def test_no_board_gets_the_annexe() -> None:
    for_boards = board_sources(LIBRARY)
    assert "securemqtt/client.py" in for_boards
    assert {name for name in for_boards if "testing" in name} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {_name(file): set(_imports(file)) for file in _files()}
    while left:
        imported = set().union(*left.values())
        inner = {name: imports & set(left) for name, imports in left.items() if imports & set(left)}
        inner = {name: imports for name, imports in inner.items() if name in imported}
        if inner == left:
            break
        left = inner
    assert left == {}


def test_only_the_platform_asks_which_interpreter_it_is() -> None:
    asking = set()
    for file in _files():
        for node in ast.walk(_tree(LIBRARY / file)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                asks = (node.value.id, node.attr) in _QUESTIONS
            elif isinstance(node, ast.ImportFrom):
                asks = any(
                    alias.name == "MICROPYTHON" or (node.module, alias.name) in _QUESTIONS
                    for alias in node.names
                )
            else:
                asks = isinstance(node, ast.Name) and node.id == "MICROPYTHON"
            if asks:
                asking.add(file)
    assert {_part(_name(file)) for file in asking} == {"platform"}, asking


def test_nothing_is_asserted() -> None:
    """An `assert` is gone where a program is optimised; an error says what to do."""
    asserting = {
        file
        for directory in (LIBRARY, TOOLS)
        for file in _files(directory)
        if any(isinstance(node, ast.Assert) for node in ast.walk(_tree(directory / file)))
    }
    assert asserting == set()


def test_no_string_names_what_is_ours() -> None:
    """What a string names is found by no type checker, and by no reader who searches for it."""
    names = {_name(file).rpartition(".")[2] for file in _files()}
    dotted = {f"securemqtt.{_name(file)}" for file in _files()}
    for file in _files():
        names |= {
            node.name
            for node in ast.walk(_tree(LIBRARY / file))
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
    found = {}
    for file in _files():
        for node in ast.walk(_tree(LIBRARY / file)):
            if isinstance(node, ast.Call):
                function = node.func
                called = getattr(function, "id", None) or getattr(function, "attr", None)
                strings = [one.value for one in node.args if isinstance(one, ast.Constant)]
                if called in _BY_NAME and names.intersection(map(str, strings)):
                    found[file] = ast.unparse(node)
            elif isinstance(node, ast.Constant) and node.value in dotted:
                found[file] = node.value
    assert set(found) == set(MODULES_IN_STRINGS), found


@pytest.mark.parametrize("directory", [LIBRARY, ANNEXE])
def test_the_tree_that_is_drawn_is_the_one_there_is(directory: Path) -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    root = re.escape(directory.relative_to(ROOT).as_posix())
    block = re.search(rf"^```\w*\n{root}/\s*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    drawn = set()
    folder, indentation = "", 0
    for line in block[1].splitlines():
        indented = len(line) - len(line.lstrip())
        begin = re.match(r"\s*((?:\w+/)+)?", line)
        if begin is not None and begin[1]:
            folder, indentation = begin[1], indented
        elif indented <= indentation:  # else it goes on with the folder above
            folder = ""
        drawn |= {folder + file for file in re.findall(r"\b\w+\.py\b", line)}
    assert drawn - set(_files(directory)) == set()
    assert set(_modules(directory)) - drawn == set()
