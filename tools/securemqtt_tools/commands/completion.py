"""Have the Tab key complete commands, options, ids and topics.

It prints what the shell has to read. Ids are those of the authority and of the bundles in
~/.securemqtt (or $SECUREMQTT_HOME, or what --home says earlier in the line).

Examples:
  securemqtt completion bash > ~/.local/share/bash-completion/completions/securemqtt
  securemqtt completion zsh > ~/.zfunc/_securemqtt
  securemqtt completion fish > ~/.config/fish/completions/securemqtt.fish
  eval "$(securemqtt completion bash)"            for this shell only; zsh: the same with zsh
"""

from __future__ import annotations

import argparse

from argcomplete.shell_integration import shellcode

_SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))


def run(args: argparse.Namespace) -> int:
    """Print it."""
    print(shellcode(["securemqtt"], shell=args.shell))
    return 0
