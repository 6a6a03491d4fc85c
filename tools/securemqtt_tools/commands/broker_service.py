"""What `securemqtt broker install` does for a broker that has no service of its own for our files:
systemd runs `broker run`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from securemqtt.platform import escaped
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.privileges import holder, name_of
from securemqtt_tools.broker.process import engine_of
from securemqtt_tools.broker.unit import HANDED_ON, NAME, BrokerUnit
from securemqtt_tools.cli import FatalError, warn
from securemqtt_tools.commands.broker_common import (
    confirmed,
    directory_of,
    say_shortcomings,
    where,
)
from securemqtt_tools.pki.files import READABLE, explained, write_file
from securemqtt_tools.service.systemd import NotRunning, Systemd, is_ours


def install(args: argparse.Namespace, config: BrokerConfig) -> int:
    """Write the unit, and start the broker now and at each boot."""
    if args.etc or args.restart or args.reload:
        raise FatalError(
            f"--etc, --restart and --reload are for Mosquitto, and this is {config.engine}"
        )
    engine = engine_of(config)
    if 0 in (config.port, config.websockets_port):
        raise FatalError("choose a port: securemqtt broker init --force --port 8883 …")
    say_shortcomings(engine.shortcomings(config))
    owner = holder(config.directory)
    if owner == 0:
        raise FatalError(
            f"{config.directory} is root's, and the broker would run as root: set it up as a user "
            f"of your own (securemqtt broker init)"
        )
    home = directory_of(args).parent.resolve()
    unit = BrokerUnit(
        engine.title,
        config,
        (*_this_command(), "run", "--home", str(home), "--engine", config.engine),
        home,
        name_of(owner),
        {name: os.environ[name] for name in _handed_on(config) if name in os.environ},
    )
    systemd = Systemd(system=True)
    path = systemd.unit_path(NAME)
    if path.exists() and not is_ours(path):
        raise FatalError(f"{path} was not written by securemqtt: it is left alone")
    text = unit.render()
    there = path.read_text() if path.exists() else ""
    print(f"{path} is as it should be." if text == there else f"{path} is to be:\n\n{text}")
    if at_risk := unit.in_tmp():
        warn(
            f"{escaped(', '.join(at_risk))}: what is in /tmp or /var/tmp is deleted some day, and "
            f"the service may write to all of /tmp for it; move it to a place of its own"
        )
    if args.dry_run:
        print("Nothing was changed.")
        return 0
    if os.geteuid() != 0:
        raise FatalError("this is root's to install: call it by sudo, with --home")
    try:
        systemd.require_running()
    except NotRunning as error:
        raise FatalError(
            "systemd does not run on this machine: have what starts programs here run securemqtt "
            "broker run"
        ) from error
    if not args.yes and not confirmed(f"Write this and start {NAME}?"):
        print("Nothing was changed.")
        return 1
    if text != there:
        with explained(f"write {path}"):
            write_file(path, text.encode(), READABLE)
    print(f"Starting {engine.title} …", flush=True)
    systemd.start(NAME)
    systemd.check_running(NAME)
    print(
        f"{engine.title} is running: {where(config)}. It takes up by itself what securemqtt broker "
        f"and securemqtt ca change. Look at it: securemqtt service status {NAME}"
    )
    return 0


def _handed_on(config: BrokerConfig) -> tuple[str, ...]:
    return HANDED_ON.get(config.engine, ())


def _this_command() -> tuple[str, ...]:
    """Return what calls `securemqtt broker` from anywhere: the command beside this Python, else, as
    with `pip install --user`, or in a clone, what this one was called by. Raise FatalError.
    """
    beside = Path(sys.executable).with_name("securemqtt")
    if beside.exists():
        return str(beside), "broker"
    called = Path(sys.argv[0]).absolute()
    words = {"securemqtt": ("broker",), "broker.py": ()}.get(called.name)
    if words is None or not called.is_file():
        raise FatalError(
            f"there is no {beside} for systemd to call: call this as securemqtt broker install, as "
            f"pip has installed it"
        )
    return sys.executable, str(called), *words
