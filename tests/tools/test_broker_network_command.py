"""`broker network` and `ca device --network`, as a person uses them, and what a broker says that
cannot enforce it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.mosquitto.engine import Mosquitto
from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from securemqtt_tools.broker.networks import listed
from securemqtt_tools.broker.rabbitmq.engine import RabbitMQ
from securemqtt_tools.broker.rabbitmq.program import Program
from securemqtt_tools.broker.rules_file import read_rules
from securemqtt_tools.cli import main
from securemqtt_tools.pki.profiles import DEVICE
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.mqtt import Peer, client_context
from support.requirements import require_program


@pytest.fixture
def home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Home:
    """A home on a computer where no Mosquitto is installed, which would have something to say."""
    monkeypatch.delenv("SECUREMQTT_MOSQUITTO", raising=False)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    return Home(tmp_path / "home", capsys)


@pytest.fixture
def with_mosquitto(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    require_program("mosquitto")
    return Home(tmp_path / "home", capsys)


def networks(home: Home) -> dict[str, str]:
    """Return who has to come from where, as both copies of the rules have it."""
    rules = read_rules(home.ca)
    assert read_rules(home.broker) == rules
    return {one: listed(rules.networks_of(one)) for one in sorted(rules.bound())}


def test_the_way_through(home: Home) -> None:
    assert home.good("broker", "network") == "Everyone may come from anywhere.\n"
    said = home.good(
        "ca", "device", "a", "b", "--network", "192.0.2.0/24", "--network", "2001:db8::1"
    )
    assert "Has to come from 192.0.2.0/24 or 2001:db8::1/128: a, b.\nThe broker takes" in said
    home.good("ca", "device", "c", "--group", "greenhouse")
    said = home.good("broker", "network", "greenhouse", "198.51.100.0/24", "::ffff:203.0.113.0/120")
    line = "group greenhouse has to come from 198.51.100.0/24 or 203.0.113.0/24.\n"
    assert said.startswith(line + "The broker takes it up")
    assert networks(home) == {
        "a": "192.0.2.0/24 or 2001:db8::1/128",
        "b": "192.0.2.0/24 or 2001:db8::1/128",
        "c": "198.51.100.0/24 or 203.0.113.0/24",
    }
    assert home.good("broker", "network", "greenhouse") == line
    said = home.good("broker", "network", "c")
    assert said == "c has to come from 198.51.100.0/24 or 203.0.113.0/24, by its groups.\n"
    said = home.good("broker", "network", "a", "192.0.3.0/24", "--remove", "2001:db8::1")
    assert said.startswith("a has to come from 192.0.2.0/24 or 192.0.3.0/24.\n")
    said = home.good("broker", "network", "b", "--remove")
    assert said.startswith("b may come from anywhere.\n")
    assert home.good("broker", "network") == (
        "a has to come from 192.0.2.0/24 or 192.0.3.0/24.\n" + line
    )
    assert sorted(networks(home)) == ["a", "c"]


def test_who_asks_is_told(home: Home) -> None:
    home.good("ca", "device", "a", "--network", "192.0.2.0/24")
    home.good("ca", "device", "b")
    shown = home.good("broker", "rules")
    assert shown == "a has to come from 192.0.2.0/24.\n"
    home.good("broker", "allow", "b", "read", "weather/#")
    shown = home.good("broker", "rules")
    assert "b    may read  weather/#" in shown
    assert shown.endswith("\na has to come from 192.0.2.0/24.\n")
    facts = json.loads(home.good("broker", "rules", "--json"))
    assert facts["networks"] == [{"id": "a", "network": "192.0.2.0/24"}]
    assert "its own prefix; has to come from 192.0.2.0/24" in home.good(
        "broker", "who-may", "devices/a/t"
    )
    assert "come from" not in home.good("broker", "who-may", "weather/now")
    _, shown, _ = home.run("broker", "status")
    assert re.search(r"^networks +for a *$", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "192.0.2.1/24"), "is no network (192.0.2.1/24 has host bits set): write 192.0.2.0/"),
        (("a", "farm"), "write 192.0.2.0/24, or 2001:db8::/32"),
        (("a", "--remove", "192.0.2.0/24"), "a has no network 192.0.2.0/24: securemqtt broker net"),
        (("a", "--remove"), "a has no networks: securemqtt broker network shows who has which"),
        (("--remove", "192.0.2.0/24"), "name the group, or the id, whose networks are to be taken"),
        (("a/b", "192.0.2.0/24"), "is no device id"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_mistakes(home: Home, arguments: tuple[str, ...], said: str) -> None:
    assert said in home.bad("broker", "network", *arguments)
    assert read_rules(home.ca).number == 0


def test_a_network_that_is_none_issues_no_certificate(home: Home) -> None:
    assert "write 192.0.2.0/24" in home.bad("ca", "device", "a", "--network", "192.0.2.1/24")
    assert home.authority.inventory.entries(DEVICE) == []


def test_a_name_that_nobody_has_is_taken_for_an_id_and_told(home: Home) -> None:
    home.good("ca", "device", "greenhouse-1", "--group", "greenhouse")
    said = home.good("broker", "network", "grenhouse", "192.0.2.0/24")
    assert "has no certificate yet (did you mean greenhouse?)" in said
    assert networks(home) == {"grenhouse": "192.0.2.0/24"}


def test_the_running_embedded_broker_takes_them_up_at_once(with_mosquitto: Home) -> None:
    home = with_mosquitto
    pump, fan = home.credentials("pump"), home.credentials("fan")
    ca = home.broker / "ca.pem"
    with (
        broker_run(home.directory, "--engine", "amqtt") as process,
        Peer(home.port, client_context(ca, pump)) as bound,
        Peer(home.port, client_context(ca, fan)) as other,
    ):
        bound.connect("pump")
        other.connect("fan")
        said = home.good("broker", "network", "pump", "192.0.2.0/24")
        assert f"The running broker (process {process.pid}) takes it up now." in said
        bound.wait_closed()
        assert not home.lets_in("pump", pump)
        other.publish("devices/fan/t", b"here")


def test_mosquitto_says_that_it_cannot_wherever_it_counts(with_mosquitto: Home) -> None:
    """As it is set up, takes up a change, is reloaded (where the rules have come as a file), and is
    started.
    """
    home = with_mosquitto
    program = find_mosquitto()
    assert program is not None
    sentence = f"Note: Mosquitto {program.version_text} looks at no address: with it, the networks"
    remedy = "securemqtt broker audit-log names who has come from elsewhere."
    again = ("broker", "init", "localhost", "--port", str(home.port), "--force")
    assert sentence not in home.good(*again)
    issued = home.good("ca", "device", "pump", "--network", "192.0.2.0/24")
    for said in (issued, home.good("broker", "reload"), home.good(*again)):
        (line,) = [one for one in said.splitlines() if one.startswith(sentence)]
        assert line.endswith(remedy)
    with broker_run(home.directory, "--engine", "mosquitto") as process:
        assert process.stdout is not None
        while sentence not in (line := process.stdout.readline()):
            assert line
    home.good("broker", "network", "pump", "--remove")
    assert sentence not in home.good("broker", "reload")


def test_the_audit_log_names_who_came_from_elsewhere(with_mosquitto: Home) -> None:
    home = with_mosquitto
    pump = home.credentials("pump")
    home.good("broker", "network", "pump", "192.0.2.0/24")
    home.good("broker", "reload")
    with home.running():
        assert home.lets_in("pump", pump)
    status, out, err = home.run("broker", "audit-log", "--check", "--json")
    assert (status, err) == (1, "")
    assert "from outside its networks (192.0.2.0/24)" in out


def test_many_are_counted(with_mosquitto: Home) -> None:
    ids = [f"pump-{number}" for number in range(6)]
    with_mosquitto.good("ca", "device", *ids, "--network", "192.0.2.0/24")
    config = BrokerConfig.open(with_mosquitto.broker)
    program = find_mosquitto()
    assert program is not None
    rabbitmq = RabbitMQ(Program(Path("/usr/lib/rabbitmq/bin"), (3, 10, 8)))  # it is not started
    for said in (Mosquitto(program).shortcomings(config), rabbitmq.shortcomings(config)):
        (sentence,) = said
        assert "the networks of 6 groups and ids are not enforced" in sentence


@pytest.mark.parametrize("words", [("network",), ("network", "pump"), ("rules",)])
def test_a_home_with_nothing_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    nowhere = tmp_path / "nowhere"
    assert main([*words, "--home", str(nowhere)], command="broker") == 1
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        f"securemqtt: there is no authority in {nowhere / 'ca'}, and no broker in "
        f"{nowhere / 'broker'}: run securemqtt ca init\n",
    )
