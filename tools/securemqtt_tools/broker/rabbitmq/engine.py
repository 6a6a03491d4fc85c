"""RabbitMQ, run as a process of our own.

It is a node by itself, on loopback but for MQTT: without epmd, which would listen for everybody,
and with a cookie of its own, by which `rabbitmqctl` finds it.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from pathlib import Path

from securemqtt.platform import escaped
from securemqtt_tools.broker.child import Child
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.devices import read_devices
from securemqtt_tools.broker.engine import Engine, Standing
from securemqtt_tools.broker.kinds import RABBITMQ
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.broker.rabbitmq import cluster as nodes
from securemqtt_tools.broker.rabbitmq.client_id import write_module
from securemqtt_tools.broker.rabbitmq.control import (
    DONE,
    Change,
    first_program,
    joining_program,
    put_out_program,
)
from securemqtt_tools.broker.rabbitmq.crls import write_crl
from securemqtt_tools.broker.rabbitmq.definitions import all_definitions, user_definitions
from securemqtt_tools.broker.rabbitmq.membership import ERLANG_COOKIE, read_cookie
from securemqtt_tools.broker.rabbitmq.program import Program
from securemqtt_tools.broker.rabbitmq.settings import FIRST, NOTHING, PLUGINS, advanced_config
from securemqtt_tools.broker.rabbitmq.topics import is_ambiguous, is_as_much
from securemqtt_tools.broker.revocations import newly_revoked
from securemqtt_tools.broker.rules import DENY, Access
from securemqtt_tools.broker.rules_file import read_rules, unenforced
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, make_directory, write_file, write_files

DIRECTORY = "rabbitmq"
_NODE = "rabbit@localhost"
_LOOPBACK = "127.0.0.1"
_CONFIGURATION = "rabbitmq.conf"
_ADVANCED = "advanced.config"
_PLUGINS = "enabled_plugins"
_DEFINITIONS = "definitions.json"
_CHANGES = "changes.json"
_FIRST_PROGRAM = "start.erl"
_PROGRAM = "take_up.erl"
_CRLS = "crl"
_MNESIA = "mnesia"
_LIBRARIES = "erlang"
_TAKE_UP_S = 120.0
# More revoked ones than can be told apart are put out with all others, as a restart would.
_MOST = 1000
_SAID = 200  # characters


class RabbitMQ(Engine):
    """An installed RabbitMQ; its own files are in rabbitmq/ in the broker's directory. What it
    keeps over a restart may be more than is allowed by then, so it is looked through before any
    port is open. It resumes no TLS session.
    """

    name = RABBITMQ
    kept = f"{DIRECTORY}/{_MNESIA}"
    start_s = 180.0
    stop_s = 60.0
    enforces_networks = False
    must_know_devices = True
    ready = re.compile(rb" completed with \d+ plugins\.")

    def __init__(self, program: Program) -> None:
        self.program = program
        self._port = free_port(_LOOPBACK)  # of the node, on loopback
        self._config: BrokerConfig | None = None  # with which it was started
        self._held: dict[str, Access] = {}
        self._unsure: set[str] = set()  # of whom it holds one thing or the other

    @property
    def title(self) -> str:
        """What people call it."""
        return f"RabbitMQ {self.program.version_text}"

    def shortcomings(self, config: BrokerConfig) -> list[str]:
        """Return what RabbitMQ cannot do of what the rules ask for."""
        lines = read_rules(config.directory).lines
        ends = [nodes.ENDS_WITH_A_NODE] if config.cluster else []
        return (
            ends
            + unenforced(self.title, config.directory)
            + [
                f"RabbitMQ takes a dot for a /, and * for +: the rule that {escaped(str(one))} "
                + ("is for these as well" if one.action == DENY else "gives nothing")
                for one in lines
                if is_ambiguous(one.topic_filter)
            ]
        )

    def may_take_s(self, config: BrokerConfig) -> float:
        """Return how long it may take to start: a node waits for others."""
        return self.start_s + (nodes.WAIT_S if config.cluster else 0)

    def neglects(self, config: BrokerConfig) -> list[str]:
        """Return the same: all of it comes from the rules."""
        return self.shortcomings(config)

    def prepare(self, config: BrokerConfig, log: Path) -> None:
        """Write all that it reads at its start. Raise FatalError."""
        here = config.directory / DIRECTORY
        for one in (here, here / _CRLS, here / _MNESIA):
            make_directory(one)
        write_module(here / _LIBRARIES)
        self._held, self._unsure = _access(config), set()
        cookie, more = secrets.token_hex(32).encode(), NOTHING
        if config.cluster is not None:
            cookie, more = read_cookie(here), nodes.cluster_settings(config.cluster)
            nodes.write_cluster(here)
        if _says_who_may(config):
            first = first_program(here / _DEFINITIONS)
        else:
            first = joining_program(nodes.AWAIT_FIRST)
        write_files(
            here,
            {
                ERLANG_COOKIE: cookie,
                _CONFIGURATION: FIRST.encode(),
                _ADVANCED: advanced_config(config, here / _FIRST_PROGRAM, here / _CRLS, more),
                _PLUGINS: PLUGINS.encode(),
                _DEFINITIONS: all_definitions(self._held, config.limits),
                _FIRST_PROGRAM: first,
            },
        )
        write_crl(here / _CRLS, config.crl())
        self._config = config

    def command(self, config: BrokerConfig) -> list[str]:
        """Return what starts it."""
        return [str(self.program.server)]

    def environment(self, config: BrokerConfig) -> dict[str, str]:
        """Return all of the environment that it, and `rabbitmqctl`, are started with."""
        here = config.directory / DIRECTORY
        without_epmd = f"-erl_epmd_port {self._port}"
        cluster = config.cluster
        more = nodes.cluster_environment(cluster, config.bind, Path(DIRECTORY)) if cluster else {}
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
            **more,
        }

    def complete(self, child: Child) -> None:
        """Have it take up what has changed while it started. Raise FatalError."""
        if self._config is not None and _access(self._config) != self._held:
            self._take_up(child, self._config, set())

    def take_up(self, child: Child, before: Standing, now: Standing) -> bool:
        """Have it take up the rules, the devices, the CRL and the certificate, and wait until it
        does. Never by a restart.

        The connections of revoked devices are ended, and those of devices that may do less than
        before, which can come back at once. Takes a second, and some more for thousands of devices.
        Raise FatalError.
        """
        directory = now.config.directory
        revoked = newly_revoked(directory, now.crl, before.crl, _MOST)
        write_crl(directory / DIRECTORY / _CRLS, now.crl)
        if _says_who_may(now.config):
            self._take_up(child, now.config, revoked)
        else:
            self._run(now.config, child.log, put_out_program(revoked or (), revoked is None))
        return True

    def keep_out(self, child: Child) -> bool:
        """Do nothing: who was revoked and has no other certificate is no user any more. Of who has
        one RabbitMQ does not tell by which he came.
        """
        return True

    def let_go(self) -> None:
        """Do nothing: nobody is looked for."""

    def end_tls_sessions(self, child: Child) -> bool:
        """Do nothing: it resumes none."""
        return True

    def _take_up(self, child: Child, config: BrokerConfig, revoked: set[str] | None) -> None:
        """`revoked` are to be put out; None: all are, since it is not known which.

        Where it fails, whatever it should have done is done by the next one.
        """
        here = config.directory / DIRECTORY
        access = _access(config)
        held, unsure = self._held, self._unsure
        changed = {one: may for one, may in access.items() if one in unsure or held.get(one) != may}
        gone = (held.keys() | unsure) - access.keys()
        lessened = {
            one
            for one, may in changed.items()
            if one in unsure or (one in held and not is_as_much(may, held[one]))
        }
        contents = {
            _CHANGES: user_definitions(changed),
            _DEFINITIONS: all_definitions(access, config.limits),
        }
        write_files(here, contents)
        change = Change(
            here / _CHANGES,
            gone=gone,
            cut=lessened | (revoked or set()),
            everyone=revoked is None,
        )
        self._unsure = changed.keys() | gone
        self._run(config, child.log, change.program())
        self._held, self._unsure = access, set()

    def _run(self, config: BrokerConfig, log: Path, program: bytes) -> None:
        path = config.directory / DIRECTORY / _PROGRAM
        write_file(path, program)
        command = [str(self.program.control), "--quiet", "eval_file", str(path)]
        with explained(f"start {self.program.control}"):
            try:
                done = subprocess.run(
                    command,
                    env=self.environment(config),
                    cwd=config.directory,
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
                    f"{log}"
                ) from error
        if done.returncode or done.stdout.strip() != DONE:
            said = escaped(" ".join((done.stderr or done.stdout).split())[:_SAID])
            raise FatalError(
                f"RabbitMQ has not taken up what has changed: {said or 'it says nothing'} (see "
                f"{log})"
            )


def _access(config: BrokerConfig) -> dict[str, Access]:
    if not _says_who_may(config):
        return {}
    rules = read_rules(config.directory)
    ids = sorted(read_devices(config.directory))
    return {one: rules.access(one, config.roles.get(one)) for one in ids}


def _says_who_may(config: BrokerConfig) -> bool:
    """Return False on a node for which the first one does."""
    return config.cluster is None or config.cluster.leads
