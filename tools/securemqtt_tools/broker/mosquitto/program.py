"""Mosquitto: find it, ask its version, write its configuration for that version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.ciphers import TLS12_CIPHERS, TLS13_CIPHERS
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.rules_file import unenforced
from securemqtt_tools.cli import FatalError

Version = tuple[int, int, int]
OLDEST: Version = (2, 0, 0)
# Mosquitto logs it once it listens; the embedded broker does likewise
READY = re.compile(rb"version \S+ running")
# From here on acl_file and password_file are deprecated, and WebSockets are Mosquitto's own:
# before, libwebsockets took no notice of a CRL, and a reload left its TLS context freed (refused
# connections, then a crash).
REWORKED_SINCE: Version = (2, 1, 0)


@dataclass(frozen=True)
class Program:
    """An installed Mosquitto."""

    path: Path
    version: Version

    @property
    def version_text(self) -> str:
        """The version as `2.0.11`."""
        return ".".join(str(number) for number in self.version)


def find_mosquitto() -> Program | None:
    """Return the installed Mosquitto, or None: $SECUREMQTT_MOSQUITTO, else on the PATH, else in the
    sbin directories.

    Raise FatalError when it is older than 2.0 or does not tell its version. Takes at most 10 s.
    """
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    path = os.environ.get("SECUREMQTT_MOSQUITTO", shutil.which("mosquitto", path=search))
    if path is None:
        return None
    if not path:
        raise FatalError("SECUREMQTT_MOSQUITTO is set to nothing: name a Mosquitto, or unset it")
    try:
        done = subprocess.run([path, "-h"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FatalError(f"cannot start {path}: {error}") from error
    found = re.search(r"mosquitto version (\d+)\.(\d+)\.(\d+)", done.stdout + done.stderr)
    if found is None:
        raise FatalError(f"{path} does not say its version: is it Mosquitto?")
    program = Program(Path(path), (int(found[1]), int(found[2]), int(found[3])))
    if program.version < OLDEST:
        raise FatalError(
            f"Mosquitto {program.version_text} is too old: install 2.0 or later, or use --engine "
            f"amqtt"
        )
    return program


def shortcomings(config: BrokerConfig, program: Program) -> list[str]:
    """Return what this Mosquitto cannot do of what the settings and the rules ask for, a sentence
    each. Raise FatalError when the rules cannot be read.
    """
    found = unenforced(f"Mosquitto {program.version_text}", config.directory)
    if config.websockets_port is None or program.version >= REWORKED_SINCE:
        return found
    return [
        *found,
        f"Mosquitto {program.version_text} looks at no revocation list on WebSockets, and cannot "
        f"reload that port: there an id with a revoked certificate is shut out with a newer one, "
        f"too, each change restarts the broker, and a certificate that has expired may come back "
        f"by resuming its TLS session. Mosquitto 2.1 can",
    ]


@dataclass(frozen=True)
class Door:
    """The listener by which single devices are put out (eviction.py): its Unix socket, and the line
    that says whom it trusts.
    """

    socket: Path
    trust: str


@dataclass(frozen=True)
class Places:
    """Where the broker finds the files of its directory, and where it writes (`data` may be below
    the directory in which it is started); None: as the main configuration says.
    """

    directory: Path
    data: Path | None
    log: Path | None
    user: str | None
    eviction: Door | None = None


def render(config: BrokerConfig, places: Places, version: Version) -> str:
    """Write the configuration as this version of Mosquitto understands it, with no option that it
    calls deprecated.
    """
    lines = [
        f"# Written by securemqtt broker for Mosquitto {version[0]}.{version[1]}; change it with "
        f"that command.",
        *_persistence(config, places),
        *_limits(config),
    ]
    if places.log is not None:
        lines += [f"log_dest file {places.log}", "log_timestamp_format %Y-%m-%dT%H:%M:%S"]
        lines += [f"log_type {kind}" for kind in ("error", "warning", "notice", "information")]
    if places.user is not None:
        lines.append(f"user {places.user}")
    # One set of rules for both listeners: with per_listener_settings, 2.0.12 to 2.0.22 lose what is
    # queued for a client that is away.
    lines += _authorisation(config, places, version)
    lines += _listener(config, places, config.port, files.CA)
    if config.websockets_port is not None:
        # Before 2.1 this listener takes no notice of the CRL: there the trust itself excepts
        # whoever has a revoked certificate.
        trust = files.WEBSOCKETS_CA if version < REWORKED_SINCE else files.CA
        lines += _listener(config, places, config.websockets_port, trust, websockets=True)
    if places.eviction is not None:
        lines += _eviction_listener(places, places.eviction)
    return "\n".join(lines) + "\n"


def _persistence(config: BrokerConfig, places: Places) -> Iterator[str]:
    """Keep sessions, retained and queued messages over a restart, and over a crash up to the last
    save.
    """
    yield "persistence true"
    if places.data is not None:
        yield f"persistence_location {places.data}/"
    if config.save_each_change:
        yield "autosave_on_changes true"
        yield "autosave_interval 1"
    else:
        yield f"autosave_interval {config.save_interval_s}"
    # No persistent_client_expiration: 2.0.11 crashes with it, once sessions wait over a reload.


def _limits(config: BrokerConfig) -> Iterator[str]:
    # With Nagle's algorithm all PUBACKs but the first wait until the device's TCP has acknowledged
    # that one.
    yield "set_tcp_nodelay true"
    limits = config.limits
    yield f"max_inflight_messages {limits.in_flight}"
    yield f"max_queued_messages {limits.queued_messages}"
    yield f"max_queued_bytes {limits.queued_bytes}"
    yield f"max_packet_size {limits.packet_bytes}"
    # A minute more than the limit: Mosquitto 2.0.21, Debian 13's, drops whoever asks for just what
    # is allowed (eclipse-mosquitto/mosquitto#3226, mended in 2.0.22). 0 is no limit.
    most = limits.keep_alive_s
    yield f"max_keepalive {min(most + 60, 65535) if most else 0}"


def _authorisation(config: BrokerConfig, places: Places, version: Version) -> Iterator[str]:
    """Load the rules and the passwords."""
    yield "allow_anonymous false"
    if version >= REWORKED_SINCE:
        yield f"plugin {_plugin('mosquitto_acl_file')}"
        yield f"plugin_opt_acl_file {places.directory / files.ACL}"
        if config.passwords:
            yield f"plugin {_plugin('mosquitto_password_file')}"
            yield f"plugin_opt_password_file {places.directory / files.PASSWORDS}"
    else:
        yield f"acl_file {places.directory / files.ACL}"
        if config.passwords:
            yield f"password_file {places.directory / files.PASSWORDS}"


def _plugin(name: str) -> Path:
    for directory in _library_directories():
        path = directory / f"{name}.so"
        if path.exists():
            return path
    raise FatalError(
        f"Mosquitto's plugin {name}.so is missing: its package is incomplete, install mosquitto "
        f"again"
    )


def _library_directories() -> Iterator[Path]:
    program = find_mosquitto()
    for prefix in (
        (Path("/usr"), Path("/usr/local"))
        if program is None
        else (program.path.resolve().parent.parent,)
    ):
        triplet = prefix / "lib" / sys.implementation._multiarch  # noqa: SLF001  (of CPython's own)
        yield from (
            triplet / "mosquitto",  # Debian's
            triplet,
            prefix / "lib",
            prefix / "lib64",
        )


def _eviction_listener(places: Places, door: Door) -> Iterator[str]:
    yield ""
    yield f"listener 0 {door.socket}"
    yield door.trust
    yield f"certfile {places.directory / files.SERVER}"
    yield f"keyfile {places.directory / files.SERVER}"
    yield "require_certificate true"
    yield "use_identity_as_username true"
    yield "use_username_as_clientid true"


def _listener(
    config: BrokerConfig, places: Places, port: int, trust: str, websockets: bool = False
) -> Iterator[str]:
    yield ""
    yield f"listener {port} {config.bind}".rstrip()
    if config.bind:
        # Without this, a WebSockets listener of Mosquitto 2.0 takes no notice of an IPv4 address
        # and listens on all.
        yield f"socket_domain {'ipv6' if ':' in config.bind else 'ipv4'}"
    if websockets:
        yield "protocol websockets"
    yield f"max_connections {config.limits.connections}"
    yield f"cafile {places.directory / trust}"
    yield f"certfile {places.directory / files.SERVER}"
    yield f"keyfile {places.directory / files.SERVER}"
    yield f"crlfile {places.directory / files.CRL}"
    yield "require_certificate true"
    yield "tls_version tlsv1.2"
    yield f"ciphers {':'.join(TLS12_CIPHERS)}"
    yield f"ciphers_tls1.3 {':'.join(TLS13_CIPHERS)}"
    # The identity is the certificate's CN, and it is the client id too, whatever the client says
    # that it is. Mosquitto never looks at a password where the certificate is the identity, so with
    # passwords the user name takes that place.
    yield f"use_identity_as_username {'false' if config.passwords else 'true'}"
    yield "use_username_as_clientid true"
