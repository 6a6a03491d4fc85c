"""What the Tab key completes: commands, options, and what is known at this desk, such as ids.

argcomplete has the parser complete the rest of a line that a shell hands over. It is loaded then
only: commands work without it.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from securemqtt.protocol.topics import PREFIX
from securemqtt_tools.cli import FatalError, default_home, directory
from securemqtt_tools.home import Home

Completer = Callable[..., Iterable[str]]
# Whoever presses Tab does not wait for another process that holds the inventory.
_LOCKED_S = 0.5
# What may stand in front of this command in a line.
_ANOTHER = re.compile(r"[|&;({]\s*(?=\S*securemqtt\s)")


def is_asked() -> bool:
    """Return True if a shell has started this process to have a line completed."""
    return "_ARGCOMPLETE" in os.environ


def words_so_far() -> list[str]:
    """Return the words of the command that is to be completed, without its own name and without the
    one that the cursor is in.
    """
    from argcomplete.lexers import split_line

    _forget_other_commands()
    line = os.environ["COMP_LINE"]
    words = split_line(line, int(os.environ["COMP_POINT"]))[3]
    return list(words[1:])


def answer(parser: argparse.ArgumentParser) -> None:
    """Print the completions for the shell, and end the process."""
    import argcomplete

    files: Any = _files  # any function will do
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=files)


def completed(action: argparse.Action, completer: Completer) -> None:
    """Have an argument completed with what `completer` knows."""
    action.completer = completer  # type: ignore[attr-defined]  # argcomplete looks there


def bundles(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the ids whose bundles are in HOME/bundles."""
    return _home(parsed_args).ids()


def ids(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the ids of devices that the authority has certified, and of bundles."""
    return sorted(set(bundles(parsed_args)).union(_subjects(_home(parsed_args), ["device"])))


def subjects(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the ids of devices and the names of servers that have certificates."""
    return sorted(_subjects(_home(parsed_args), ["device", "server"]))


def topics(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return how a topic may begin. A ~ that is not quoted yet is the shell's, so not with that."""
    return [f"{PREFIX}{one}/" for one in ids(parsed_args)]


def filters(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return how a topic filter may begin."""
    return [*topics(parsed_args), f"{PREFIX}+/"]


def _home(parsed_args: argparse.Namespace) -> Home:
    home: Path = getattr(parsed_args, "home", None) or default_home()
    return Home(home.expanduser())


def _subjects(home: Home, roles: Iterable[str]) -> set[str]:
    """Return whom the authority has certified; nobody where there is none, or none to be read."""
    from securemqtt_tools.pki.inventory import Inventory
    from securemqtt_tools.pki.layout import INVENTORY

    path = home.ca / INVENTORY
    if not path.exists():
        return set()
    inventory = Inventory(path, lock_timeout_s=_LOCKED_S)
    try:
        return {entry.subject for role in roles for entry in inventory.entries(role)}
    except FatalError:  # there is nobody to be told: the command itself will say it
        return set()


def _forget_other_commands() -> None:
    """Leave of the line what belongs to this command: zsh hands over all of `tail -f x |
    securemqtt pub …`, and argcomplete would take `tail` for the command.
    """
    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    begins = [found.end() for found in _ANOTHER.finditer(line, 0, point)]
    if begins:
        os.environ["COMP_LINE"] = line[begins[-1] :]
        os.environ["COMP_POINT"] = str(point - begins[-1])


def _files(action: argparse.Action, **about: Any) -> Iterable[str]:
    """Complete files where an argument is one; argcomplete would for anything that it does not
    know.
    """
    from argcomplete.completers import FilesCompleter

    return FilesCompleter()(action=action, **about) if action.type in (Path, directory) else ()
