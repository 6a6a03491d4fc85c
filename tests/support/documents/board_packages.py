"""Write package.json (for `mpremote mip install`) and manifest.py (to freeze the library into a
firmware): the same modules that provisioning copies. A test sees to it that both are true.

python tests/support/documents/board_packages.py
"""

from __future__ import annotations

import json
from pathlib import Path

from securemqtt import __version__
from securemqtt_tools.provision.board.library import board_sources
from securemqtt_tools.provision.board.umqtt import MIP

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "lib" / "securemqtt"
PACKAGE = ROOT / "package.json"
MANIFEST = ROOT / "manifest.py"
_UMQTT = "umqtt.simple"
_MANIFEST_HEAD = '''\
"""securemqtt in a board's firmware: include this file in the manifest that the firmware is built
with. `tests/support/documents/board_packages.py` writes it.
"""
'''


def package_json() -> str:
    """Return the content of package.json, as mip takes it: sources go by their path from there."""
    urls = [json.dumps([name, f"lib/{name}"]) for name in board_sources(LIBRARY)]
    lines = ",\n    ".join(urls)
    return (
        f'{{\n  "urls": [\n    {lines}\n  ],\n  "deps": [["{_UMQTT}", "{MIP.version}"]],\n'
        f'  "version": "{__version__}"\n}}\n'
    )


def manifest() -> str:
    """Return the content of manifest.py. Level 2 is that of provisioning: it keeps line numbers."""
    names = [
        name.removeprefix("securemqtt/")
        for name in board_sources(LIBRARY)
        if name.endswith(".py")  # data cannot be frozen
    ]
    files = "".join(f'        "{name}",\n' for name in names)
    return (
        f'{_MANIFEST_HEAD}\nmetadata(version="{__version__}")\nrequire("{_UMQTT}")\n'
        f'package(\n    "securemqtt",\n    files=(\n{files}    ),\n'
        f'    base_path="lib",\n    opt=2,\n)\n'
    )


if __name__ == "__main__":
    PACKAGE.write_text(package_json())
    MANIFEST.write_text(manifest())
