"""The unit by which systemd runs `broker run`, for brokers whose own service cannot take our files:
they read them from the broker's directory, and are told there what has changed.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.kinds import HIVEMQ, RABBITMQ
from securemqtt_tools.cli import warn
from securemqtt_tools.service.unit import BROKER_MARK, EVERYWHERE, SYSTEM_ONLY, plain, word

NAME = "securemqtt-broker"
# What leads `broker run` to the program that it starts.
HANDED_ON = {HIVEMQ: ("HIVEMQ_HOME", "JAVA_HOME"), RABBITMQ: ("SECUREMQTT_RABBITMQ",)}
_SOCKET = "NOTIFY_SOCKET"
_START_S = 300
_OTHERS_S = 600  # a node of a cluster waits for others
_STOP_S = 90
_FIRST_UNPRIVILEGED_PORT = 1024
_PRIVATE_TMP = "PrivateTmp=yes"
_TMP = ("/tmp", "/var/tmp")  # noqa: S108  (looked for, and not used)


@dataclass(frozen=True)
class BrokerUnit:
    """What systemd is to run: `command` as `user`, who may write to `home` alone."""

    title: str
    config: BrokerConfig
    command: Sequence[str]
    home: Path
    user: str
    environment: Mapping[str, str]

    def render(self) -> str:
        """Return the unit's text."""
        sections = (
            [BROKER_MARK, f"# `securemqtt service remove {NAME}` takes it away again."],
            ["[Unit]", *self._unit()],
            ["[Service]", *self._service()],
            ["[Install]", "WantedBy=multi-user.target"],
        )
        return "\n\n".join("\n".join(lines) for lines in sections) + "\n"

    def _unit(self) -> Iterable[str]:
        yield f"Description={plain(self.title)}, MQTT over mutual TLS"
        yield "# Certificates are no good without the time."
        yield "Wants=network-online.target time-sync.target"
        yield "After=network-online.target time-sync.target"

    def _service(self) -> Iterable[str]:
        yield "# Started means that it listens."
        yield "Type=notify"
        yield f"TimeoutStartSec={_START_S + (_OTHERS_S if self.config.cluster else 0)}"
        yield "# The directory is this user's."
        yield f"User={self.user}"
        yield "UMask=0077"
        yield "Environment=PYTHONUNBUFFERED=1"
        for name, value in sorted(self.environment.items()):
            yield f"Environment={word(f'{name}={value}')}"
        yield f"WorkingDirectory={plain(self.home)}"
        yield "ExecStart=" + " ".join(map(word, self.command))
        yield "ExecReload=/bin/kill -HUP $MAINPID"
        yield "# To `broker run`, which ends the broker in order."
        yield "KillMode=mixed"
        yield f"TimeoutStopSec={_STOP_S}"
        yield "Restart=on-failure"
        yield "RestartSec=10"
        yield "# A file for each connection, and some more."
        yield f"LimitNOFILE={self.config.limits.connections + 2000}"
        ports = (self.config.port, self.config.websockets_port)
        own_tmp = not self.in_tmp()
        for reason, settings in (*SYSTEM_ONLY, *EVERYWHERE):
            yield f"# {reason[0].upper()}{reason[1:]}."
            yield from (one for one in settings if own_tmp or one != _PRIVATE_TMP)
        if not own_tmp:
            yield "# No /tmp of its own, since what it needs lies there."
            yield "ReadWritePaths=/tmp"
        if any(port and port < _FIRST_UNPRIVILEGED_PORT for port in ports):
            yield "# But a port below 1024 may be opened."
            yield "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"
            yield "AmbientCapabilities=CAP_NET_BIND_SERVICE"
        yield "# setpriv, by which the broker ends with us, sets the rights that it has: none."
        yield "SystemCallFilter=capset"
        yield "# Erlang asks the kernel for this machine's addresses."
        yield "RestrictAddressFamilies=AF_NETLINK"
        yield "# Python may be in a home, which is there to be read."
        yield "ProtectHome=read-only"
        yield f"ReadWritePaths={word(str(self.home))}"
        yield "PrivateDevices=yes"

    def in_tmp(self) -> list[str]:
        """Return what it needs that would be hidden by a /tmp of its own."""
        ours = (sys.executable, __file__)
        needed = (*self.command, str(self.home), *self.environment.values(), *ours)
        paths = [one for one in map(Path, needed) if one.is_absolute()]
        return [
            str(one)
            for one in dict.fromkeys(paths)
            # a link leads there, or from there
            if any(each.is_relative_to(place) for each in (one, one.resolve()) for place in _TMP)
        ]


def tell_systemd() -> None:
    """Tell systemd that the broker listens, if it is systemd that has started us."""
    address = os.environ.pop(_SOCKET, "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
            # one that begins with @ has no place in the file system: unix(7), abstract
            notifying.sendto(b"READY=1", address.replace("@", "\0", 1))
    except OSError as error:
        warn(f"systemd cannot be told that the broker listens: {error}")
