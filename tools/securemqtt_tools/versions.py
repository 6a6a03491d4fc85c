"""What `securemqtt --version` says, so that a report of a fault has it in one piece."""

from __future__ import annotations

import platform
import ssl
from importlib import metadata

from securemqtt import __version__


def version_lines() -> list[str]:
    """Return a line each for securemqtt, Python, OpenSSL, paho-mqtt and Mosquitto.

    Asks Mosquitto for its own, which takes at most 10 s. Needs none of the tools' packages.
    """
    return [
        f"securemqtt {__version__}",
        f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}",
        ssl.OPENSSL_VERSION,
        f"paho-mqtt {metadata.version('paho-mqtt')}",
        f"Mosquitto {_mosquitto()}",
    ]


def _mosquitto() -> str:
    # Imported here, since these modules import the command line, and packages of the tools.
    from securemqtt_tools.cli import FatalError

    try:
        from securemqtt_tools.broker.mosquitto.program import find_mosquitto

        program = find_mosquitto()
    except ModuleNotFoundError as error:
        return f"not looked for: {error.name} is not installed"
    except FatalError as error:
        return f"of unknown version: {error}"
    return f"{program.version_text}, {program.path}" if program else "not installed"
