"""Make the library smaller for a board, as source: one module of what stays in memory, a few of
what is lent, nothing said twice.

A board pays for each module it keeps (about 300 bytes), for each function (about 100) and for each
name that its firmware does not know (about 30), on 64 bits. The source in the repository is for its
readers; here

- the modules that stay are joined into one, `securemqtt/__init__.py`; - methods that are marked
with `_compat.rare` go into the module `lifecycle`, which is lent, and are looked up there
(shrink_lent.py); - functions and constants of theirs that only lent modules use go there; - lent
modules that a connection needs together become one; - locks go, since a board has one thread, and
so do annotations and docstrings (shrink_bare.py); - settings and counters are lists, whose names
are known to lent modules only (shrink_counters.py for the latter); - names that no program uses are
replaced by names that the firmware has (shrink_names.py).

The figures are in docs/ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Iterable, Iterator

from securemqtt_tools.board.shrink_bare import (
    Uninterned,
    bare,
    inline_constants,
    names_from_elsewhere,
)
from securemqtt_tools.board.shrink_counters import counter_names, number_counters
from securemqtt_tools.board.shrink_lent import lend_methods, lend_texts
from securemqtt_tools.board.shrink_names import Modules, is_constant, rename, rename_program
from securemqtt_tools.cli import FatalError

PACKAGE = "securemqtt/"
# In the order in which each finds what it needs above it.
RESIDENT = (
    "_marks",
    "_micropython",
    "_compat",
    "failure",
    "outbox",
    "session",
    "packets",
    "backends/stream",
    "backends/umqtt",
    "client",
)
# Lent modules that are made of several. What others need of these as well is there beside them.
GROUPS = {
    "bundle": ("topics", "files", "bundle"),
    "assembly": ("files", "backends/keys_mbedtls", "backends/context_mbedtls", "assembly"),
    "umqtt_rare": ("files", "readiness", "backends/tls_mbedtls", "backends/umqtt_rare"),
    "lifecycle": ("topics", "backoff", "lifecycle"),
    "umqtt_receive": ("packets_more", "backends/umqtt_receive"),
    "journal_start": ("journal_record", "journal_start"),
    "journal_write": ("journal_record", "journal_write"),
    "journal_read": ("journal_record", "journal_read"),
    "journal_room": ("journal_record", "journal_room"),
}
_GROUP_OF = {
    _part.rpartition("/")[2]: _group for _group, _parts in GROUPS.items() for _part in _parts
}
# What is public and not loaded before somebody wants it. What else is asked for here is a module,
# as in `from securemqtt import errors`.
_GETATTR = """
def __getattr__(name):
    return rarely("public").attribute(name)
"""
_PUBLIC = """
def attribute(name):
    if name == "__version__":
        return __version__
    if name == "Message":
        from .messages import Message
        return Message
    try:  # as it would be without this function
        return __import__("securemqtt." + name, None, None, ("*",))
    except ImportError:
        raise AttributeError(name)
"""


def shrink(sources: dict[str, str]) -> dict[str, str]:
    """Return the library's modules, name relative to `/lib` and source, in their small form."""
    return {
        name: ast.unparse(tree) + "\n" for name, tree in _shrunk(tuple(sources.items()))[0].items()
    }


def shrink_program(sources: dict[str, str], text: str) -> str:
    """Have a program that knows the library from inside, a test, run with the small form of
    `sources`.
    """
    _, package, lent, names = _shrunk(tuple(sources.items()))
    program = bare(text)
    library = {_module_name(name): bare(source) for name, source in sources.items()}
    number_counters([program], counter_names(list(library.values())))
    _number_given_settings(program, [tree for name, tree in library.items() if name != "bundle"])
    package.provide(program, _redirect(program, lent, "securemqtt"), "securemqtt")
    rename_program(program, names)
    return ast.unparse(ast.fix_missing_locations(program)) + "\n"


@functools.lru_cache(maxsize=4)
def _shrunk(
    sources: tuple[tuple[str, str], ...],
) -> tuple[Modules, _Package, set[str], dict[str, str]]:
    trees = {_module_name(name): bare(text) for name, text in sources}
    resident = {
        part: trees.pop(_module_name(part)) for part in RESIDENT if _module_name(part) in trees
    }
    package_tree, lent = _join(resident), trees
    version = [
        node
        for node in lent.pop("", ast.Module([], [])).body
        if isinstance(node, ast.Assign) and "__version__" in ast.unparse(node)
    ]
    lent.pop("backends", None)
    lent["public"] = ast.Module([*version, *ast.parse(_PUBLIC).body], [])
    reached = {name for tree in lent.values() for name in names_from_elsewhere(tree)}
    inline_constants(package_tree, reached)  # now, since one of them is the name of a module
    lend_methods(package_tree, lent)
    lend_texts(package_tree, lent)
    _make_groups(lent)
    number_counters([package_tree, *lent.values()], counter_names([package_tree, *lent.values()]))
    _number_settings(
        [package_tree, *(tree for name, tree in lent.items() if name != "bundle")],
        lent.get("bundle"),
    )
    _redirect(package_tree, set(lent))
    package = _Package(package_tree)
    for tree in lent.values():
        _redirect(tree, set(lent))
        package.provide(tree, _names_in(tree))
    package.drop_left_over()
    for node in package_tree.body:
        if isinstance(node, ast.ClassDef):  # their places in its table are for what the class has
            node.body[:0] = ast.parse("del __module__, __qualname__").body
    package_tree.body += ast.parse(_GETATTR).body
    reached = {name for tree in lent.values() for name in names_from_elsewhere(tree)}
    for tree in [package_tree, *lent.values()]:
        inline_constants(tree, reached)
    modules = {f"{PACKAGE}__init__.py": package_tree} | {
        f"{PACKAGE}{name}.py": tree for name, tree in sorted(lent.items())
    }
    groups = {f"{PACKAGE}{name}.py" for name in GROUPS if name in lent}
    names = rename(modules, f"{PACKAGE}__init__.py", groups)
    for name in groups:
        uninterned = Uninterned()
        uninterned.visit(modules[name])
        modules[name].body.insert(0, uninterned.table())
    for tree in modules.values():
        ast.fix_missing_locations(tree)
    return modules, package, set(lent), names


def _module_name(name: str) -> str:
    """Return what a module is called on a board, where `backends` is no package of its own; "" for
    the package.
    """
    name = name.removeprefix(PACKAGE).removesuffix(".py").removesuffix("__init__").rstrip("/")
    return name.rpartition("/")[2]


# Joining


def _join(parts: dict[str, ast.Module], apart: bool = False) -> ast.Module:
    """Join modules into one. Names must not clash; `apart`: a later module's own names give way."""
    owners: dict[str, str] = {}
    body: list[ast.stmt] = []
    seen: set[str] = set()
    for name, tree in parts.items():
        clashes = {
            defined for defined in _defined(tree) if owners.setdefault(defined, name) != name
        }
        if clashes and not apart:
            raise FatalError(
                f"{name} and {owners[min(clashes)]} both define {min(clashes)}: a board's library "
                f"joins them"
            )
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in clashes:
                node.id = f"{node.id}_{_module_name(name)}"
            elif isinstance(node, ast.FunctionDef) and node.name in clashes and node in tree.body:
                node.name = f"{node.name}_{_module_name(name)}"
        for node in tree.body:
            text = ast.unparse(node)
            if not isinstance(node, (ast.Import, ast.ImportFrom)) or text not in seen:
                body.append(node)
                seen.add(text)
    return ast.Module(body, [])


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _binds(node)


def _binds(node: ast.stmt) -> list[str]:
    """Return the names that a statement at the top level binds."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [
            part.id
            for target in node.targets
            for part in ast.walk(target)
            if isinstance(part, ast.Name)
        ]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name for alias in node.names]
    return []


def _names_in(tree: ast.AST) -> list[str]:
    """Return the names that are read in a tree, in their order."""
    return list(
        dict.fromkeys(
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        )
    )


def _make_groups(lent: dict[str, ast.Module]) -> None:
    """Make one module of each group; of its parts those stay beside it that others import."""
    parts = {
        name: [_module_name(part) for part in group]
        for name, group in GROUPS.items()
        if name in lent
    }
    in_groups = {part for group in parts.values() for part in group}
    joined = {
        name: _join({part: copy.deepcopy(lent[part]) for part in group if part in lent}, apart=True)
        for name, group in parts.items()
    }
    for name, tree in joined.items():
        _merge_imports(tree, set(parts[name]))
    wanted = {
        target
        for name, tree in lent.items()
        if name not in in_groups
        for target in _own_imports(tree)
    }
    for part in in_groups - wanted - set(parts):
        lent.pop(part, None)
    lent.update(joined)


def _own_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield (node.module or "").rpartition(".")[2]
            yield from (alias.name for alias in node.names)


def _merge_imports(tree: ast.Module, parts: set[str]) -> None:
    """Take out the imports of modules from each other that are one now."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            from_part = (node.module or "").split(".")[-1] in parts
            node.names = [
                alias
                for alias in node.names
                if not from_part and (node.module or alias.name not in parts)
            ]
    tree.body = [node for node in tree.body if not isinstance(node, ast.ImportFrom) or node.names]
    _Merged(parts).visit(tree)


class _Merged(ast.NodeTransformer):
    """Has `files.read` be `read`."""

    def __init__(self, parts: set[str]) -> None:
        self._parts = parts

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in self._parts:
            return ast.Name(node.attr, node.ctx)
        return node


# Who finds what where


def _redirect(tree: ast.Module, lent: set[str], package: str = "") -> list[str]:
    """Have imports and `rarely` go by the modules that a board has; return the names that come from
    what is joined, without their imports.
    """
    wanted: list[str] = []
    joined = {_module_name(part) for part in RESIDENT}

    def place(node: ast.ImportFrom) -> ast.ImportFrom | None:
        path = (node.module or "").split(".")
        own = path[0] == "securemqtt" if package else bool(node.level)
        module = path[-1] if path[-1] not in {"securemqtt", "backends"} else ""
        if not own:
            return node
        if module in joined or (
            not module and not {alias.name for alias in node.names} & (lent | set(_GROUP_OF))
        ):
            wanted.extend(alias.name for alias in node.names)
            return None
        if module:
            module = module if module in lent else _GROUP_OF.get(module, module)
            return ast.ImportFrom(
                f"{package}.{module}" if package else module, node.names, 0 if package else 1
            )
        names = [
            ast.alias(
                one.name if one.name in lent else _GROUP_OF.get(one.name, one.name),
                one.asname or one.name,
            )
            for one in node.names
        ]
        return ast.ImportFrom(package or None, names, 0 if package else 1)

    class Redirect(ast.NodeTransformer):
        def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
            return place(node)

        def visit_Constant(self, node: ast.Constant) -> ast.Constant:
            if isinstance(node.value, str) and node.value.startswith("backends."):
                return ast.Constant(node.value.removeprefix("backends."))
            return node

        def visit_Call(self, node: ast.Call) -> ast.Call:
            self.generic_visit(node)
            first = node.args[0] if node.args else None
            if (
                isinstance(node.func, ast.Name)
                and node.func.id == "rarely"
                and isinstance(first, ast.Constant)
            ):
                node.args = [
                    ast.Constant(_GROUP_OF.get(str(first.value), first.value)),
                    *node.args[1:],
                ]
            return node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            self.generic_visit(node)
            node.body = node.body or [ast.Pass()]
            return node

    Redirect().visit(tree)
    return wanted


class _Package:
    """The module that stays, and who needs what of it."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._definitions = {name: node for node in tree.body for name in _binds(node)}
        self._stays: set[str] = set()
        # What a function assigns to must be there once, so nobody gets a copy of that, or of a
        # function that goes by it.
        shared = {
            name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names
        }
        by_name = {
            node: {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            for node in tree.body
        }
        roots = [
            node for node in tree.body if isinstance(node, ast.ClassDef) or shared & by_name[node]
        ]
        waiting = [name for node in roots for name in (*_binds(node), *_names_in(node))]
        while waiting:
            name = waiting.pop()
            if name in self._definitions and name not in self._stays:
                self._stays.add(name)
                waiting += _names_in(self._definitions[name])

    def provide(self, tree: ast.Module, names: Iterable[str], package: str = "") -> None:
        """Return a module what it needs: an import of what stays, a copy of what does not, or could
        not be imported.
        """
        has = {name for node in tree.body for name in _binds(node)} if not package else set()
        imports: list[str] = []
        copies: list[ast.stmt] = []
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            node = self._definitions.get(name)
            if node is None or name in has:
                continue
            has.add(name)
            if (
                name in self._stays
                and not is_constant(node)
                and not isinstance(node, (ast.Import, ast.ImportFrom))
            ):
                imports.append(name)
            else:
                copies.insert(0, copy.deepcopy(node))
                waiting += _names_in(node)
        if imports:
            copies.insert(
                0,
                ast.ImportFrom(
                    package or None,
                    [ast.alias(name) for name in sorted(imports)],
                    0 if package else 1,
                ),
            )
        tree.body[:0] = copies
        tree.body.sort(key=lambda node: not isinstance(node, (ast.Import, ast.ImportFrom)))

    def drop_left_over(self) -> None:
        """Take out what only others need, who have it now."""
        self._tree.body = [
            node for node in self._tree.body if not _binds(node) or set(_binds(node)) & self._stays
        ]


# Settings


def _number_settings(trees: list[ast.Module], bundle: ast.Module | None) -> None:
    """Have settings["host"] be an index into a list, which takes a quarter of a dict with its keys;
    `settings_of` in bundle.py gives that.
    """
    uses = [node for tree in trees for node in ast.walk(tree) if _is_setting(node)]
    names = sorted({node.slice.value for node in uses})  # type: ignore[attr-defined]
    for node in uses:
        node.slice = ast.Constant(names.index(node.slice.value))  # type: ignore[attr-defined]
    for node in bundle.body if bundle else ():
        if isinstance(node, ast.FunctionDef) and node.name == "settings_of":
            given = node.body[-1].value  # type: ignore[attr-defined]
            node.body = ast.parse(
                f"values = {ast.unparse(given)}\nreturn [values[name] for name in {tuple(names)}]"
            ).body


def _number_given_settings(program: ast.Module, library: list[ast.Module]) -> None:
    """Have a program that calls functions of the library with settings of its own give them by
    number.
    """
    names = sorted(
        {node.slice.value for tree in library for node in ast.walk(tree) if _is_setting(node)}
    )  # type: ignore[attr-defined]
    takers = {}
    for tree in library:
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            parameters = [argument.arg for argument in function.args.args]
            if "settings" in parameters:
                takers[function.name] = parameters.index("settings")
    imports = [
        node
        for node in ast.walk(program)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("securemqtt")
    ]
    imported = {name for node in imports for name in _binds(node)}
    for node in [one for one in ast.walk(program) if isinstance(one, ast.Call)]:
        module, _, name = ast.unparse(node.func).rpartition(".")
        ours = (module or name) in imported or module.startswith("rarely(")
        at = takers.get(name, len(node.args)) if ours else len(node.args)
        if at < len(node.args):
            node.args[at] = ast.Call(ast.Name("_by_number", ast.Load()), [node.args[at]], [])
    helper = (
        f"def _by_number(given):\n    return {{number: given[name] for number, name in "
        f"enumerate({names}) if name in given}}"
    )
    program.body[:0] = ast.parse(helper).body


def _is_setting(node: ast.AST) -> bool:
    if (
        not isinstance(node, ast.Subscript)
        or not isinstance(node.slice, ast.Constant)
        or not isinstance(node.slice.value, str)
    ):
        return False
    return ast.unparse(node.value).rpartition(".")[2] in {"settings", "_settings"}
