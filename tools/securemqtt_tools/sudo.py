"""Who is behind `sudo`: root's home, in which a command looks then, is seldom what was meant."""

from __future__ import annotations

import os
import pwd
import shlex
from pathlib import Path

from securemqtt_tools.home import Home


def caller_home() -> Path | None:
    """Return the home directory of the user who called us by `sudo`; None if nobody did."""
    user = os.environ.get("SUDO_USER")
    if not user or os.geteuid() != 0:
        return None
    try:
        return Path(pwd.getpwnam(user).pw_dir)
    except KeyError:
        return None


def meant_instead(missing: Path) -> str | None:
    """Return what to say of a file in the commands' home, `HOME/KIND/FILE`, that is not there, if
    the caller of `sudo` has one: --home was forgotten. None if nothing speaks for that.
    """
    caller = caller_home()
    if caller is None:
        return None
    home = Home.of(caller).path
    theirs = home.joinpath(*missing.parts[-2:])
    if theirs == missing or not theirs.exists():
        return None
    return f"did you mean --home {shlex.quote(str(home))}?"
