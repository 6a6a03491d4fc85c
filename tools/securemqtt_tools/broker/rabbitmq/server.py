"""A RabbitMQ of our own: its files, how it is started, and what it takes up while it runs.

It is a node by itself, on loopback but for MQTT: without epmd, which would listen for everybody,
and with a cookie of its own, by which `rabbitmqctl` finds it.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from securemqtt.platform import escaped
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.broker.rabbitmq.client_id import write_module
from securemqtt_tools.broker.rabbitmq.control import DONE, Change
from securemqtt_tools.broker.rabbitmq.crls import write_crl
from securemqtt_tools.broker.rabbitmq.definitions import all_definitions, user_definitions
from securemqtt_tools.broker.rabbitmq.devices import read_devices
from securemqtt_tools.broker.rabbitmq.program import Program
from securemqtt_tools.broker.rabbitmq.settings import FIRST, PLUGINS, advanced_config
from securemqtt_tools.broker.rabbitmq.topics import is_ambiguous
from securemqtt_tools.broker.revocations import newly_revoked
from securemqtt_tools.broker.rules import DENY, Access, covered
from securemqtt_tools.broker.rules_file import read_rules, unenforced
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, make_directory, write_file, write_files

DIRECTORY = "rabbitmq"
_NODE = "rabbit@localhost"
_LOOPBACK = "127.0.0.1"
_COOKIE = ".erlang.cookie"
_CONFIGURATION = "rabbitmq.conf"
_ADVANCED = "advanced.config"
_PLUGINS = "enabled_plugins"
_DEFINITIONS = "definitions.json"
_CHANGES = "changes.json"
_PROGRAM = "take_up.erl"
_CRLS = "crl"
_MNESIA = "mnesia"
_LIBRARIES = "erlang"
_TAKE_UP_S = 120.0
# More revoked ones than can be told apart are put out with all others, as a restart would.
_MOST = 1000


class RabbitMQ:
    """The broker of a directory. `take_up` is to be called once after each start, too: what is kept
    of before the start may be more than is allowed now.

    An object belongs to one thread at a time.
    """

    ready = re.compile(rb" completed with \d+ plugins\.")

    def __init__(self, config: BrokerConfig, program: Program, log: Path) -> None:
        self.config = config
        self.program = program
        self.log = log
        self._directory = config.directory / DIRECTORY
        self._port = free_port(_LOOPBACK)  # of the node, on loopback
        self._held: dict[str, Access] = {}
        self._crl: x509.CertificateRevocationList | None = None
        self._is_first = True

    def write(self) -> None:
        """Write all that RabbitMQ reads at its start. Raise FatalError."""
        if self.config.passwords:
            raise FatalError(
                "RabbitMQ lets in by certificate alone here: run securemqtt broker init --force "
                "without --passwords, or use Mosquitto"
            )
        for one in (self._directory, self._directory / _CRLS, self._directory / _MNESIA):
            make_directory(one)
        write_module(self._directory / _LIBRARIES)
        self._held = _access(self.config)
        self._is_first = True
        advanced = advanced_config(
            self.config, self._directory / _DEFINITIONS, self._directory / _CRLS
        )
        contents = {
            _COOKIE: secrets.token_hex(32).encode(),
            _CONFIGURATION: FIRST.encode(),
            _ADVANCED: advanced,
            _PLUGINS: PLUGINS.encode(),
            _DEFINITIONS: all_definitions(self._held, self.config.limits),
        }
        write_files(self._directory, contents)
        self._crl = self._write_crl()

    def command(self) -> list[str]:
        """Return what starts it in the foreground: one process, which SIGTERM ends in order."""
        return [str(self.program.server)]

    def environment(self) -> dict[str, str]:
        """Return all of the environment that it, and `rabbitmqctl`, are started with."""
        here = self._directory
        without_epmd = f"-erl_epmd_port {self._port}"
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(here),
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_DIST_PORT": str(self._port),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(here / _CONFIGURATION),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(here / _ADVANCED),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / _PLUGINS),
            "RABBITMQ_MNESIA_BASE": str(here / _MNESIA),
            "RABBITMQ_MNESIA_DIR": str(here / _MNESIA / "node"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(here / _MNESIA / "feature_flags"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(here / "generated"),
            "RABBITMQ_PID_FILE": str(here / "pid"),
            "RABBITMQ_LOG_BASE": str(here),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG": "-color",
            # so its script becomes RabbitMQ, and is no process beside it
            "RUNNING_UNDER_SYSTEMD": "1",
            "ERL_LIBS": str(here / _LIBRARIES),
            # RabbitMQ's own watch over epmd would start it all the same
            "ERL_ZFLAGS": "-start_epmd false",
            "ERL_EPMD_ADDRESS": _LOOPBACK,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-sname {_NODE} {without_epmd} "
            f"-kernel inet_dist_use_interface {{{_LOOPBACK.replace('.', ',')}}}",
            "RABBITMQ_CTL_ERL_ARGS": f"{without_epmd} -dist_listen false",
        }

    def take_up(self) -> None:
        """Have the running broker take up the rules, the devices, the CRL and the certificate as
        they are now, while connections stand; it does when this returns.

        Those of revoked devices are ended, and those of devices that may do less than before, which
        can come back at once. Takes a second, and some more for thousands of devices. Raise
        FatalError.
        """
        config = BrokerConfig.open(self.config.directory)
        access, crl = _access(config), self._write_crl()
        changed = {one: may for one, may in access.items() if self._held.get(one) != may}
        write_files(
            self._directory,
            {
                _CHANGES: user_definitions(changed),
                _DEFINITIONS: all_definitions(access, config.limits),
            },
        )
        revoked = newly_revoked(
            config.directory, crl, crl if self._crl is None else self._crl, _MOST
        )
        lessened = {
            one for one, may in changed.items() if not _is_as_much(may, self._held.get(one))
        }
        change = Change(
            self._directory / _CHANGES,
            self._directory / _DEFINITIONS,
            gone=self._held.keys() - access.keys(),
            cut=lessened | (revoked or set()),
            everyone=revoked is None,
            first=self._is_first,
        )
        self._run(change)
        self.config, self._held, self._crl, self._is_first = config, access, crl, False

    def _run(self, change: Change) -> None:
        path = self._directory / _PROGRAM
        write_file(path, change.program())
        command = [str(self.program.control), "--quiet", "eval_file", str(path)]
        with explained(f"start {self.program.control}"):
            try:
                done = subprocess.run(
                    command,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_TAKE_UP_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise FatalError(
                    f"RabbitMQ has not taken up what has changed within {_TAKE_UP_S:.0f} s: see "
                    f"{self.log}"
                ) from error
        if done.returncode or done.stdout.strip() != DONE:
            said = [one for one in (done.stderr or done.stdout).splitlines() if one.strip()]
            raise FatalError(
                f"RabbitMQ has not taken up what has changed: "
                f"{escaped(said[0].strip()) if said else 'it says nothing'} (see {self.log})"
            )

    def _write_crl(self) -> x509.CertificateRevocationList:
        crl = self.config.crl()
        write_crl(self._directory / _CRLS, crl)
        return crl


def shortcomings(config: BrokerConfig) -> list[str]:
    """Return what RabbitMQ cannot do of what the rules ask for, a sentence each. Raise FatalError
    when they cannot be read.
    """
    lines = read_rules(config.directory).lines
    ambiguous = [one for one in lines if is_ambiguous(one.topic_filter)]
    return unenforced("RabbitMQ", config.directory) + [
        f"RabbitMQ takes a dot for a /, and * for +: the rule that {escaped(str(one))} "
        + ("is for these as well" if one.action == DENY else "gives nothing")
        for one in ambiguous
    ]


def _access(config: BrokerConfig) -> dict[str, Access]:
    rules = read_rules(config.directory)
    ids = sorted(read_devices(config.directory))
    return {one: rules.access(one, config.roles.get(one)) for one in ids}


def _is_as_much(now: Access, before: Access | None) -> bool:
    """Return True if nothing was taken away."""
    if before is None:
        return True
    given = _all_covered(before.read, now.read) and _all_covered(before.write, now.write)
    return given and _all_covered(now.denied, before.denied)


def _all_covered(some: Iterable[str], by: Iterable[str]) -> bool:
    filters = tuple(by)
    return all(covered(filters, one) for one in some)
