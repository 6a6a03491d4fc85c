"""A client's counters, `_stats`, are a list on a board: a dict takes three times as much, and keeps
the names in memory. See shrink.py.
"""

from __future__ import annotations

import ast


def counter_names(trees: list[ast.Module]) -> list[str]:
    """Return the names in their order: first those that `_stats` is made with, then those of
    `_stats.update`, which come later.
    """
    first: list[str] = []
    later: list[str] = []
    for node in [node for tree in trees for node in ast.walk(tree)]:
        if (
            isinstance(node, ast.Assign)
            and _is_counters(node.targets[0])
            and isinstance(node.value, ast.Dict)
        ):
            first += [str(ast.literal_eval(key)) for key in node.value.keys if key]
        elif _is_update(node):
            later += [str(keyword.arg) for keyword in node.keywords]  # type: ignore[attr-defined]
    return first + later


def number_counters(trees: list[ast.Module], names: list[str]) -> None:
    """Have `_stats["sent"]` be an index, in place; `dict(client._stats)` puts the names back."""
    for tree in trees:
        _Numbered(names).visit(tree)


class _Numbered(ast.NodeTransformer):
    def __init__(self, names: list[str]) -> None:
        self._names = names

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        self.generic_visit(node)
        if _is_counters(node.targets[0]) and isinstance(node.value, ast.Dict):
            node.value = ast.List(node.value.values, ast.Load())
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.Subscript:
        self.generic_visit(node)
        if _is_counters(node.value) and isinstance(node.slice, ast.Constant):
            node.slice = ast.Constant(self._names.index(str(node.slice.value)))
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if _is_update(node):
            values: list[ast.expr] = [keyword.value for keyword in node.keywords]
            return ast.Call(
                ast.Attribute(node.func.value, "extend", ast.Load()),
                [ast.List(values, ast.Load())],
                [],
            )  # type: ignore[attr-defined]
        if (
            isinstance(node.func, ast.Name)
            and node.func.id == "dict"
            and node.args
            and _is_counters(node.args[0])
        ):
            names = ast.Tuple([ast.Constant(name) for name in self._names], ast.Load())
            node.args = [ast.Call(ast.Name("zip", ast.Load()), [names, *node.args], [])]
        return node


def _is_update(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "update"
        and _is_counters(node.func.value)
    )


def _is_counters(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "_stats"
