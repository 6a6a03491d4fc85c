"""Print as JSON which versions the tests meet in this environment, as each of them says itself."""

from __future__ import annotations

import json
import platform
import ssl
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from support.requirements import find_program

_ASK = """
import sys
version = ".".join(str(part) for part in sys.implementation.version[:3])
version += "".join("-" + part for part in sys.implementation.version[3:] if part)
print(version, "(32 bits)" if sys.maxsize < 1 << 32 else "")
"""


def main() -> int:
    """Print them."""
    mosquitto = find_mosquitto()
    print(
        json.dumps(
            {
                "debian": Path("/etc/debian_version").read_text().strip(),
                "cpython": platform.python_version(),
                "openssl": ssl.OPENSSL_VERSION.split()[1],
                "micropython": _micropython(),
                "mosquitto": "none" if mosquitto is None else mosquitto.version_text,
            }
        )
    )
    return 0


def _micropython() -> str:
    program = find_program("micropython")
    if program is None:
        return "none"
    done = subprocess.run(
        [program, "-c", _ASK], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
