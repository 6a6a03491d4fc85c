"""What a board has no use for goes from each module: docstrings, annotations, what threads need,
what is for type checkers. See shrink.py.
"""

from __future__ import annotations

import ast
import re
from collections import Counter

from securemqtt_tools.board.shrink_names import is_known

_TYPE_CHECKING = re.compile(r"^if TYPE_CHECKING:\n(?:    .*\n|\n(?=    ))+", re.MULTILINE)
# So many characters of a string the compiler makes a name of, which stays in memory when its module
# goes.
_INTERNED = 10
_LOCKS = {"_lock", "_syncing", "lock"}
# What is there for the compiler, for type checkers and for shrink.py.
_ABSENT = {
    "TYPE_CHECKING",
    "MICROPYTHON",
    "Lock",
    "const",
    "once",
    "rare",
    "wake",
    "make_loop",
    "start_loop",
}
# Functions that do nothing where there is one thread.
_IDLE = {"wake", "make_loop", "start_loop"}


def bare(text: str) -> ast.Module:
    """Parse a module without what a board has no use for."""
    tree = ast.parse(
        _TYPE_CHECKING.sub("", text).replace(
            "if MICROPYTHON and not TYPE_CHECKING:", "if MICROPYTHON:"
        )
    )
    return ast.fix_missing_locations(_Bare().visit(tree))  # type: ignore[no-any-return]


class _Bare(ast.NodeTransformer):
    """Takes out docstrings, annotations, `__slots__`, locks, and what is for CPython or for type
    checkers.
    """

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and isinstance(node, ast.stmt):
            node.body = [part for part in body if not isinstance(part, ast.Pass)] or [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        value = node.value
        if isinstance(value, ast.Constant):
            return None
        if (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Attribute)
            and value.func.attr == "notify_all"
        ):
            return None
        if (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Name)
            and value.func.id in _IDLE
        ):
            return None
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_With(self, node: ast.With) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        subject = node.items[0].context_expr
        return node.body if isinstance(subject, ast.Attribute) and subject.attr in _LOCKS else node

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt] | None:
        condition = ast.unparse(node.test)
        self.generic_visit(node)
        if condition in {"MICROPYTHON", "not MICROPYTHON"}:
            return node.body if condition == "MICROPYTHON" else node.orelse
        empty = all(isinstance(part, ast.Pass) for part in node.body) and not node.orelse
        return (
            None
            if empty and not any(isinstance(part, ast.Call) for part in ast.walk(node.test))
            else node
        )

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        return (
            ast.Constant(None)
            if isinstance(node.func, ast.Name) and node.func.id == "Lock"
            else node
        )

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return (
            ast.Constant(True)
            if node.id == "MICROPYTHON" and isinstance(node.ctx, ast.Load)
            else node
        )

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt | None:
        return None if node.name == "Lock" else self.generic_visit(node)  # type: ignore[return-value]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt | None:
        if node.name in _IDLE:
            return None
        node.returns = None
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        return self.visit_Assign(ast.Assign([node.target], node.value)) if node.value else None

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id in {
            "__slots__",
            "TYPE_CHECKING",
            "MICROPYTHON",
        }:
            return None
        if isinstance(target, ast.Attribute) and target.attr in _LOCKS:
            return None
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        node.names = [alias for alias in node.names if alias.name not in _ABSENT]
        return node if node.names else None


def names_from_elsewhere(tree: ast.Module) -> set[str]:
    """Return the names that a module may have from others of the package: what it imports, and what
    is behind a dot.
    """
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    return {alias.name for node in imports for alias in node.names} | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def inline_constants(tree: ast.Module, reached: set[str]) -> None:
    """Put the values of constants in the places of their names, which a module's table would hold;
    but for those that are `reached`.

    The compiler does that with what `const` marks. A value that is an object of its own goes only
    where there is one place for it.
    """
    assigned = Counter(
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
    assigned.update(node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))
    used = Counter(
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    )
    values: dict[str, ast.expr] = {}
    for node in list(tree.body):
        if (
            isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
        ):
            name, value = node.targets[0].id, node.value
            constant = assigned[name] == 1 and name not in reached and name[:2] != "__"
            if constant and (_is_number(value) or (used[name] == 1 and _is_literal(value))):
                values[name] = value
                tree.body.remove(node)
    _Inlined(values).visit(tree)


def _is_number(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, int))


def _is_literal(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) or (
        isinstance(value, ast.Tuple) and all(isinstance(part, ast.Constant) for part in value.elts)
    )


class _Inlined(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._values.get(node.id, node)


class Uninterned(ast.NodeTransformer):
    """Has short strings of a module that is lent go with it: as parts of a tuple the compiler makes
    no names of them.
    """

    def __init__(self) -> None:
        self._strings: list[str] = []

    def table(self) -> ast.stmt:
        """Return the statement that the module begins with."""
        return ast.Assign(
            [ast.Name("e", ast.Store())],
            ast.Tuple([ast.Constant(text) for text in self._strings], ast.Load()),
        )

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if (
            not isinstance(node.value, str)
            or len(node.value.encode("utf-8", "surrogatepass")) > _INTERNED
            or is_known(node.value)
        ):
            return node
        if node.value not in self._strings:
            self._strings.append(node.value)
        return ast.Subscript(
            ast.Name("e", ast.Load()), ast.Constant(self._strings.index(node.value)), ast.Load()
        )

    def visit_Tuple(self, node: ast.Tuple) -> ast.Tuple:
        constant = all(isinstance(part, ast.Constant) for part in node.elts)
        return node if constant else self.generic_visit(node)  # type: ignore[return-value]
