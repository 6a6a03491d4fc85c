"""CONTRIBUTING.md, SECURITY.md and the hooks: what they tell one to run or look at is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "README.md")
HOOKS = ROOT / ".pre-commit-config.yaml"
_FOLDERS = {"boards", "docs", "firmware", "lib", "tests", "tools"}


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_what_make_is_told_to_make_is_a_target(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE)
    assert named and set(named) <= _targets()


def test_make_help_names_targets() -> None:
    done = subprocess.run(
        ["make", "--silent", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    named = set(re.findall(r"^make ([a-z-]+)", done.stdout, re.MULTILINE))
    assert named and named <= _targets()


@pytest.mark.parametrize("page", PAGES[:2])
def test_the_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = {
        name
        for name in re.findall(r"[\w.-]+/[\w./-]*\w", text)
        if name.split("/")[0] in _FOLDERS
        if "NAME" not in name
    }
    assert len(named) > 5
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("page", PAGES[:2])
def test_the_tests_that_a_page_names_are_there(page: str) -> None:
    """What it names by a function, and what it chooses with -k."""
    text = (ROOT / page).read_text()
    sources = "".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in sources
    for files, chosen in set(re.findall(r"pytest (tests/\S+) -k (\w+)", text)):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", files, "-k", chosen],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not HOOKS.exists(), reason="an sdist has no hooks")
def test_the_hooks_run_what_is_there() -> None:
    """Each in the environment's own version: a hook has none of its own."""
    repositories = yaml.safe_load(HOOKS.read_text())["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system"
        program, *arguments = shlex.split(hook["entry"])
        if program == "make":
            assert set(arguments) & _targets()
            assert shutil.which("make")
        else:
            assert program.startswith(".venv/bin/")
            assert (Path(sys.executable).parent / Path(program).name).exists()
