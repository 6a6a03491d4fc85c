"""The errors as CPython alone can look at them: their page, their source, pickle, mypy."""

from __future__ import annotations

import ast
import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from securemqtt import errors
from support.documents.errors_page import LIBRARY, PAGE, ROOT, page
from support.speed import seconds

_ENTRIES = [name for name, _, _ in errors._catalogue()]
CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.SecureMQTTError)
]


class TooSlow(errors.TimedOut):
    """An error of a user's own."""


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python tests/support/documents/errors_page.py"


def test_every_class_says_in_a_sentence_what_it_is() -> None:
    for kind in CLASSES:
        assert kind.__doc__ and kind.__doc__.endswith("."), kind


def test_the_tree_at_the_top_is_that_of_the_classes() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__)
    assert sorted(drawn) == sorted(
        kind.__name__ for kind in CLASSES if kind is not errors.SecureMQTTError
    )
    branch = ""
    for line in errors.__doc__.splitlines():
        for name in re.findall(r"[├└]── (\w+)", line):
            if line.startswith("    │   "):
                assert getattr(errors, name).__base__.__name__ == branch, name
            else:
                branch = name
                assert getattr(errors, name).__base__ is errors.SecureMQTTError, name


def test_the_catalogue_has_the_variants_that_a_type_checker_knows() -> None:
    for node in ast.walk(ast.parse((LIBRARY / "errors.py").read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_Variant":
            known = {one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)}
    assert known - {""} == {key.partition(".")[2] for key in _ENTRIES} - {""}


@pytest.mark.parametrize("kind", [*CLASSES, TooSlow], ids=lambda kind: kind.__name__)
def test_pickle_makes_it_again(kind: type[errors.SecureMQTTError]) -> None:
    error = kind("it broke", 5, about="/secure/x")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own)
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert again.args == error.args and str(again) == str(error)


class Own(errors.TimedOut):
    """One that is made in a way of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(f"attempt {number}", number)
        self.number = number


def test_pickle_and_copy_keep_what_a_subclass_has() -> None:
    error = Own(7)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(again) is Own
        assert (str(again), again.number, again.remedy) == (str(error), 7, error.remedy)


def test_pickle_keeps_the_words_of_a_variant() -> None:
    error = errors.WrongEncoding("it broke", variant="pem_key", about="/secure/x")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


def test_a_name_that_is_misspelt_is_an_error_of_mypys(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from securemqtt import errors\n"
        "errors.WrongEncoding('x', variant='pem')\n"
        "errors.WrongEncodin('x')\n"
        "errors.WrongEncoding('x', variant='pemm')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "--config-file=", str(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds(100),
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT / "lib")},
    )
    found = [
        line.partition(": error: ") for line in done.stdout.splitlines() if ": error: " in line
    ]
    assert [(where, text.rpartition("[")[2]) for where, _, text in found] == [
        ("program.py:3", "attr-defined]"),
        ("program.py:4", "arg-type]"),
    ], done.stdout + done.stderr
