"""The unit that systemd is given, with the reason of each part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# The first line of a unit of ours; one with neither is somebody else's.
MARK = "# Written by `securemqtt service install`."
BROKER_MARK = "# Written by `securemqtt broker install`."
MARKS = (MARK, BROKER_MARK)
# Leaving takes 15 s at most where the network hangs.
STOP_S = 30
# What can't be had elsewhere in a unit without its being taken for something else.
FORBIDDEN = frozenset("\"'\\$;")
# Gives the credentials the names that config.json knows them by: systemd calls them
# bundle_config.json and so on. Links of an earlier start go, since a new identity has other names.
# Where systemd's mounts are private, its directory of credentials is empty for the service.
_LINK = (
    'set -- "$$CREDENTIALS_DIRECTORY"/bundle_*; '
    '[ -e "$$1" ] || { echo "securemqtt: systemd has handed over no bundle, since its mounts do '
    "not reach this service: on this machine (is it a container?) say mount --make-rshared /, "
    'then start the service anew" >&2; exit 1; }; '
    'mkdir -p "$$SECUREMQTT_BUNDLE" && cd "$$SECUREMQTT_BUNDLE" && '
    "find . -maxdepth 1 -type l -delete && "
    'for one; do ln -s "$$one" "$${one##*/bundle_}" || exit 1; done'
)
EVERYWHERE = (
    ("no way to more rights, by sudo say", ("NoNewPrivileges=yes",)),
    (
        "the network, and the sockets of this machine",
        ("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",),
    ),
    (
        "what a program that reads sensors and talks to a broker never asks of the kernel",
        (
            "RestrictNamespaces=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "LockPersonality=yes",
            "SystemCallArchitectures=native",
            "SystemCallFilter=@system-service",
            "SystemCallFilter=~@privileged @resources",
            "SystemCallErrorNumber=EPERM",
        ),
    ),
)
SYSTEM_ONLY = (
    ("none of root's powers", ("CapabilityBoundingSet=", "AmbientCapabilities=")),
    ("nothing but its own directory can be written to", ("ProtectSystem=strict", "PrivateTmp=yes")),
    (
        "kernel and machine are not its to change, nor other programs to look at",
        (
            "ProtectHostname=yes",
            "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelTunables=yes",
            "ProtectControlGroups=yes",
            "ProtectProc=invisible",
        ),
    ),
)


@dataclass(frozen=True)
class Service:
    """What is to run, and how.

    `owner` is the user that it runs as, None for one that systemd makes for it alone; `groups` are
    those whose devices it uses, `hidden` what it shall not see of its owner's home.
    """

    name: str
    program: Path
    arguments: tuple[str, ...]
    python: Path
    bundle: Path
    system: bool
    owner: str | None
    groups: tuple[str, ...]
    hidden: tuple[Path, ...]
    answers_sigterm: bool

    @property
    def unit_name(self) -> str:
        """The unit, as systemctl calls it."""
        return f"{self.name}.service"


def render(service: Service) -> str:
    """Return the unit's text."""
    sections = (
        [MARK, f"# `securemqtt service remove {service.name}` takes it away again."],
        ["[Unit]", *_unit(service)],
        ["[Service]", *_service(service)],
        ["[Install]", f"WantedBy={'multi-user' if service.system else 'default'}.target"],
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def uses_bundle(unit: str, bundle: Path) -> bool:
    """Return True if a unit of ours, be it the system's or a user's, has this bundle."""
    return not {_credential(bundle), _own_bundle(bundle)}.isdisjoint(unit.splitlines())


def _credential(bundle: Path) -> str:
    return f"LoadCredential=bundle:{plain(bundle)}"


def _own_bundle(bundle: Path) -> str:
    return f"Environment={word(f'SECUREMQTT_BUNDLE={bundle}')}"


def _unit(service: Service) -> Iterable[str]:
    yield f"Description={plain(service.program.name)}, with MQTT over mutual TLS"
    if service.system:
        yield "# The client would wait for both; so the journal is spared the errors of until then."
        yield "Wants=network-online.target time-sync.target"
        yield "After=network-online.target time-sync.target"
    yield "# What fails ten times within ten minutes needs you: it is left alone, as `failed`."
    yield "StartLimitIntervalSec=600"
    yield "StartLimitBurst=10"


def _service(service: Service) -> Iterable[str]:
    yield "# Started means that Python runs."
    yield "Type=exec"
    yield from _identity(service)
    yield "# What is printed is in the journal at once."
    yield "Environment=PYTHONUNBUFFERED=1"
    yield f"WorkingDirectory={plain(service.program.parent)}"
    words = (service.python, service.program, *service.arguments)
    yield "ExecStart=" + " ".join(word(str(one)) for one in words)
    yield from _ending(service)
    for reason, settings in (*(SYSTEM_ONLY if service.system else ()), *EVERYWHERE):
        yield f"# {reason[0].upper()}{reason[1:]}."
        yield from settings
    if service.system:
        yield from _home_and_devices(service)


def _identity(service: Service) -> Iterable[str]:
    state = f"StateDirectory={service.name}"
    yield "UMask=0077"
    if not service.system:
        yield "# The bundle is yours, and so is the service: it is used where it is."
        yield _own_bundle(service.bundle)
        yield "# A directory of its own, $STATE_DIRECTORY."
        yield state
        yield "StateDirectoryMode=0700"
        return
    if service.owner is None:
        yield "# A user that systemd makes for this service alone."
        yield "DynamicUser=yes"
    else:
        yield "# The program is this user's, who could change it anyway."
        yield f"User={service.owner}"
    if service.groups:
        yield f"SupplementaryGroups={' '.join(service.groups)}"
    yield "# A directory of its own, $STATE_DIRECTORY, for the bundle's links and the outbox."
    yield state
    yield "StateDirectoryMode=0700"
    yield "# systemd reads the bundle and gives it to this service alone, in memory."
    yield _credential(service.bundle)
    yield f"Environment=SECUREMQTT_BUNDLE=%S/{service.name}/bundle"
    yield f"ExecStartPre=/bin/sh -c '{_LINK}'"


def _ending(service: Service) -> Iterable[str]:
    if service.answers_sigterm:
        yield "# The program has an answer to it, and so passes through `client.disconnect()`."
        yield "KillSignal=SIGTERM"
    else:
        yield "# As Ctrl-C: KeyboardInterrupt passes through `with client:`, which leaves in order."
        yield "# The program has no answer to SIGTERM, which would end it at once."
        yield "KillSignal=SIGINT"
    yield "# To the program, not to what it has started, which is its to end."
    yield "KillMode=mixed"
    yield f"TimeoutStopSec={STOP_S}"
    yield "Restart=on-failure"
    yield "RestartSec=10"


def _home_and_devices(service: Service) -> Iterable[str]:
    if service.owner is None:
        yield "# Nobody's files at home are its business."
        yield "ProtectHome=yes"
    else:
        yield "# Program and Python may be in a home; it is there to be read, but for its secrets."
        yield "ProtectHome=read-only"
        yield from (f"InaccessiblePaths=-{plain(path)}" for path in service.hidden)
    if not service.groups:
        # ProtectClock= is a list of devices, too, and would shut out those of a group.
        yield "# No hardware. For sensors on I²C, SPI, GPIO: install again with --group i2c, …"
        yield "PrivateDevices=yes"
        yield "ProtectClock=yes"


def plain(value: Path | str) -> str:
    """Return a value that takes the rest of its line."""
    return str(value).replace("%", "%%")


def word(text: str) -> str:
    """Return a word of a command line, which systemd splits and expands as it says in
    systemd.service(5).
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if not escaped or set(escaped) & set(" '\"\\;") else escaped
