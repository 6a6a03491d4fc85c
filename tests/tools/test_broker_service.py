"""`broker install` for HiveMQ and RabbitMQ, as far as it can be seen without systemd."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.unit import BrokerUnit
from securemqtt_tools.service.systemd import is_ours
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.rabbitmq import require_rabbitmq

pytestmark = pytest.mark.brokers


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    """A home for RabbitMQ; not root's, whose no broker is installed."""
    require_rabbitmq()
    made = Home(tmp_path / "home", capsys, broker=False)
    made.good("broker", "init", "localhost", "--for", "rabbitmq", "--port", str(made.port))
    return made


def give_away(home: Home) -> None:
    if os.geteuid() == 0:
        owner = pwd.getpwnam("daemon")
        for one in (home.directory, *home.directory.rglob("*")):
            os.chown(one, owner.pw_uid, owner.pw_gid)


@pytest.mark.parametrize("option", ["--etc", "--restart", "--reload"])
def test_what_is_for_mosquitto_is_refused(home: Home, option: str) -> None:
    said = "--etc, --restart and --reload are for Mosquitto, and this is rabbitmq"
    assert said in home.bad("broker", "install", "--dry-run", option, "/etc/mosquitto")


def test_the_unit_is_that_of_this_broker(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVEMQ_HOME", "/opt/hivemq")
    monkeypatch.setenv("SECUREMQTT_RABBITMQ", str(require_rabbitmq().server.parent))
    give_away(home)
    status, out, err = home.run("broker", "install", "--dry-run")
    assert status == 0
    assert "HIVEMQ_HOME" not in out
    assert "Environment=SECUREMQTT_RABBITMQ=" in out
    begin = "# Written by `securemqtt broker install`.\n"
    unit = tmp_path / "unit"
    unit.write_text(begin + out.partition(begin)[2])
    assert is_ours(unit)
    unit.write_text("# Written by `securemqtt service install`.\n")
    assert is_ours(unit)
    # where pytest has its files, and perhaps this clone
    in_tmp = home.directory.resolve().is_relative_to("/tmp")
    places = err.partition(": what is in /tmp or /var/tmp is")[0]
    assert (str(home.directory.resolve()) in places) == in_tmp


def test_what_lies_in_tmp_is_known(home: Home) -> None:
    config = BrokerConfig.open(home.broker)
    # of a clone that lies there itself
    ours = BrokerUnit("It", config, ("/usr/bin/x",), Path("/home/pi"), "pi", {}).in_tmp()
    for command, place, environment, found in (
        ("/usr/bin/x", "/home/pi", {}, []),
        ("/tmp/x", "/home/pi", {"A": "/var/tmp/y"}, ["/tmp/x", "/var/tmp/y"]),
    ):
        unit = BrokerUnit("It", config, (command,), Path(place), "pi", environment)
        assert unit.in_tmp() == [*found, *ours]
        assert ("ReadWritePaths=/tmp\n" in unit.render()) == bool(found or ours)


@pytest.mark.skipif(os.geteuid() != 0, reason="is about what root starts")
def test_root_is_not_advised_what_is_refused_then(home: Home) -> None:
    with broker_run(home.directory) as process:
        process.terminate()
        _, err = process.communicate()
    assert "Set it up as a user of your own\n" in err
    assert "root's, and the broker would run as root" in home.bad("broker", "install", "--dry-run")
