"""Methods and texts that are lent: they go from the module that stays into those that
`_compat.rarely` gives. See shrink.py.
"""

from __future__ import annotations

import ast

from securemqtt_tools.cli import FatalError

# Where the methods with a mark of `_compat` go.
_HOMES = {"once": "assembly", "rare": "lifecycle"}

# What is added to the package where methods are lent: `_rare` finds one, `_once` stands for one
# that a class has. While one of them runs, `rarely` gives the module at hand, lest another copy be
# loaded.
_FINDERS = """
_at_hand = None

def _found(place, owner, name):
    module = rarely(place)
    return module._bound(module, getattr(getattr(module, owner._rares), name), owner)

def _rare(self, name):
    return _found("lifecycle", self, name)

def _once(self, *args, **options):
    _found("assembly", self, "__init__")(*args, **options)
"""
# How the package's own `failure` is called: with a number for name and text, which are in
# diagnose.py then.
_EXPLAINED = """
if what is None:
    name, what = _SAID[name]
"""
_AT_HAND = """
if _at_hand and _at_hand.__name__ == "securemqtt." + name:
    return _at_hand
"""
# The module is emptied once it is done with: the interpreter's stack may show an old pointer to one
# of its functions for a while, and through that function all of it would stay. Who has kept the
# method, and calls it again, has it looked up anew.
_BOUND = """
import sys

def _bound(module, function, owner):
    package = sys.modules["securemqtt"]
    name = function.__name__
    held = [module, function]

    def call(*args, **options):
        if not held:
            return getattr(owner, name)(*args, **options)
        outer = package._at_hand
        package._at_hand = held[0]
        try:
            return held[1](owner, *args, **options)
        finally:
            package._at_hand = outer
            if not outer and held[0].__name__ not in sys.modules:
                held[0].__dict__.clear()
                held.clear()

    return call
"""


def lend_texts(package: ast.Module, lent: dict[str, ast.Module]) -> None:
    """Move the names and texts of failures to where they are put into words."""
    said: list[ast.expr] = []
    for node in ast.walk(package):
        if (
            not isinstance(node, ast.Call)
            or not isinstance(node.func, ast.Name)
            or node.func.id != "failure"
        ):
            continue
        if all(isinstance(argument, ast.Constant) for argument in node.args[:2]):
            said.append(ast.Tuple(node.args[:2], ast.Load()))
            node.args[:2] = [ast.Constant(len(said) - 1), ast.Constant(None)]
    for node in lent["diagnose"].body if said else ():
        if isinstance(node, ast.FunctionDef) and node.name == "explain":
            node.body[:0] = ast.parse(_EXPLAINED).body
            lent["diagnose"].body.insert(
                0, ast.Assign([ast.Name("_SAID", ast.Store())], ast.Tuple(said, ast.Load()))
            )
            break


def lend_methods(package: ast.Module, lent: dict[str, ast.Module]) -> None:
    """Move the methods that are marked `rare` or `once`."""
    classes = [node for node in package.body if isinstance(node, ast.ClassDef)]
    moved = {
        home: [rares for rares in (_without(mark, node) for node in classes) if rares]
        for mark, home in _HOMES.items()
    }
    for home, rares in moved.items():
        if rares:
            lent[home].body += [*ast.parse(_BOUND).body, *rares]
    if any(moved.values()):
        first = package.body.index(classes[0])
        package.body[first:first] = ast.parse(_FINDERS).body
        for node in package.body:
            if isinstance(node, ast.FunctionDef) and node.name == "rarely":
                node.body[:0] = ast.parse(_AT_HAND).body


def _without(mark: str, kind: ast.ClassDef) -> ast.ClassDef | None:
    """Take the methods with a mark out of a class; return a class with them, or None if there are
    none.
    """
    found = [
        node
        for node in kind.body
        if isinstance(node, ast.FunctionDef) and mark in map(ast.unparse, node.decorator_list)
    ]
    if not found:
        return None
    for node in found:
        node.decorator_list = []
    names = f"_rares = 'Rare{kind.name}'"
    finder = f"{found[0].name} = _once" if mark == "once" else "__getattr__ = _rare"
    if mark == "once":
        if len(found) > 1:
            raise FatalError(f"{kind.name} has more than one method marked `once`")
        found[0].name = "__init__"
    elif "__init__" in {node.name for node in found}:
        raise FatalError(f"{kind.name}.__init__ cannot be `rare`, but `once`")
    kept = [node for node in kind.body if node not in found and ast.unparse(node) != names]
    kind.body = ast.parse(f"{names}\n{finder}").body + kept
    return ast.ClassDef(f"Rare{kind.name}", [], [], list(found), [])
