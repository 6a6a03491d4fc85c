"""Find the packages that a command needs and run it: what every script in this folder calls.

Without an installation, the library is taken from the checkout. Third-party packages come from the
environment in use, else from the checkout's own `.venv`, else one line says how to make it.
"""

import os
import sys

from securemqtt_tools import entry


def run(command: str) -> None:
    """Run `command` with the arguments of this process and exit with its status."""
    entry.load()
    from pathlib import Path

    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root / "lib"))
    try:
        import cryptography  # noqa: F401  (the one package that every command needs in the end)
        import rich  # noqa: F401
    except ImportError:
        python = root / ".venv" / "bin" / "python"
        if python.exists() and Path(sys.prefix) != root / ".venv":
            os.execv(python, [str(python), *sys.argv])  # noqa: S606  (our own interpreter, our own arguments)
        sys.exit(
            "securemqtt: the tools' packages are missing: run `make setup` in the project's "
            "directory"
        )
    sys.exit(entry.run(command, root / "tools"))
