"""RabbitMQ: find it, and ask its version."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.cli import FatalError

Version = tuple[int, int, int]
VARIABLE = "SECUREMQTT_RABBITMQ"
# The series that this was run with. 3.12 and 4.0 have another MQTT plugin, which keeps its sessions
# and caches in another way.
TRIED = (3, 10)
_PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin")
_SERVER = "rabbitmq-server"
_CONTROL = "rabbitmqctl"


@dataclass(frozen=True)
class Program:
    """An installed RabbitMQ: the directory of its own scripts. What Debian has in /usr/sbin is not
    among them: that becomes the user rabbitmq, who can read nothing of what is ours.
    """

    path: Path
    version: Version

    @property
    def version_text(self) -> str:
        """The version as `3.10.8`."""
        return ".".join(str(number) for number in self.version)

    @property
    def server(self) -> Path:
        """What starts a broker."""
        return self.path / _SERVER

    @property
    def control(self) -> Path:
        """What speaks to one that runs."""
        return self.path / _CONTROL


def find_rabbitmq() -> Program | None:
    """Return the installed RabbitMQ, or None: $SECUREMQTT_RABBITMQ, else where Debian puts it.

    Raise FatalError when it is of a series that this was never run with, or does not tell its
    version.
    """
    chosen = os.environ.get(VARIABLE)
    found = (shutil.which(_SERVER, path=one) for one in (_PLACES if chosen is None else (chosen,)))
    server = next(filter(None, found), None)
    if server is None:
        if chosen is not None:
            raise FatalError(f"{VARIABLE}={chosen} has no {_SERVER}: correct it, or unset it")
        return None
    # …/rabbitmq_server-3.10.8/sbin/rabbitmq-server, once links are followed
    named = re.search(r"/rabbitmq_server-(\d+)\.(\d+)\.(\d+)/", str(Path(server).resolve()))
    if named is None:
        raise FatalError(f"{server} does not say its version: is it RabbitMQ?")
    program = Program(Path(server).parent, (int(named[1]), int(named[2]), int(named[3])))
    if program.version[:2] != TRIED:
        raise FatalError(
            f"RabbitMQ {program.version_text} was never tried with this: install "
            f"{TRIED[0]}.{TRIED[1]}, as Debian 12 has it"
        )
    return program
