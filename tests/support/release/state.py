"""Whether a commit is ready to be released: its version, its changelog, its tree."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

from support.setup_environment import ROOT

_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
_DAY = r"\d{4}-\d\d-\d\d"


class NotReady(Exception):
    """Something is in the way of the release: a line that says what, and what to do."""


def source_version(text: str) -> str:
    """Return the version in the text of lib/securemqtt/__init__.py. Raise NotReady."""
    found = _VERSION.search(text)
    if found is None:
        raise NotReady("lib/securemqtt/__init__.py has no line __version__ = …")
    return found[1]


def changelog_faults(text: str, version: str) -> Iterator[str]:
    """Yield what is wrong with the newest section of the changelog: it is this version's, has the
    day of the release, and says something.
    """
    newest = re.search(r"^## (\S+)(?: \((.*)\))?\n+(.*)$", text, re.MULTILINE)
    if newest is None or newest[1] != version:
        yield f"CHANGELOG.md's newest section is not that of {version}: write it"
    elif re.fullmatch(_DAY, newest[2] or "") is None:
        yield f"CHANGELOG.md does not say when {version} was released: ## {version} (YYYY-MM-DD)"
    elif not newest[3] or newest[3].startswith("#"):
        yield f"CHANGELOG.md says nothing of {version}"


def uncommitted() -> Iterator[str]:
    """Yield what is wrong with the tree: it differs from what is committed."""
    changed = git("status", "--porcelain").splitlines()
    if changed:
        yield f"{len(changed)} files are not as committed ({changed[0].strip()}, …): commit them"


def git(*arguments: str) -> str:
    """Return what a git command prints. Raise CalledProcessError if it fails."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout
