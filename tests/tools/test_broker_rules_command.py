"""`broker allow`, `deny`, `group`, `rules`, `who-may` and `ca device --group`, as a person uses
them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from securemqtt_tools.broker.rules_file import read_rules
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.mqtt import Peer, client_context
from support.network.net import wait_until
from support.requirements import require_program


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path / "home", capsys)


def acl(home: Home) -> list[str]:
    """Return the rules as Mosquitto has them, without the comments."""
    lines = (home.broker / "acl").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")][1:]


def test_the_way_through(home: Home) -> None:
    said = home.good("ca", "device", "greenhouse-1", "greenhouse-2", "--group", "greenhouse")
    assert "In group greenhouse: greenhouse-1, greenhouse-2.\nThe broker takes it up" in said
    home.good("ca", "device", "hub")
    said = home.good("broker", "allow", "greenhouse", "read", "weather/#", "time")
    assert said.startswith("group greenhouse may read weather/#.\ngroup greenhouse may read time.")
    home.good("broker", "allow", "hub", "readwrite", "weather/now")
    home.good("broker", "deny", "greenhouse", "weather/raw/#")
    _, shown, _ = home.run("broker", "status")
    assert "5; groups: greenhouse" in shown
    said = home.good("broker", "group", "greenhouse", "--remove", "greenhouse-2")
    assert said.startswith("Group greenhouse: greenhouse-1\n")
    assert acl(home) == [
        "user greenhouse-1",
        "topic deny weather/raw/#",
        "topic read weather/#",
        "topic read time",
        "user hub",
        "topic read weather/now",
        "topic write weather/now",
    ]
    shown = home.good("broker", "rules")
    assert "3  hub               may read   weather/now" in shown
    assert shown.endswith("Group greenhouse: greenhouse-1\n")
    facts = json.loads(home.good("broker", "rules", "--json"))
    assert facts["groups"] == {"greenhouse": ["greenhouse-1"]}
    assert facts["rules"][4] == {
        "number": 5,
        "group": "greenhouse",
        "action": "deny",
        "topic": "weather/raw/#",
    }
    assert "Taken away: group greenhouse is denied weather/raw/#." in home.good(
        "broker", "rules", "--remove", "5"
    )
    assert "topic deny weather/raw/#" not in acl(home)


def test_who_may(home: Home) -> None:
    home.good("ca", "device", "a", "b", "boss", "--group", "greenhouse")
    home.good("broker", "grant", "boss", "operator")
    home.good("broker", "allow", "greenhouse", "read", "weather/#")
    home.good("broker", "deny", "b", "weather/raw")
    said = home.good("broker", "who-may", "weather/raw")
    assert [line.split()[0] for line in said.splitlines()] == ["who", "a", "boss"]
    assert "group greenhouse may read weather/#" in said
    said = home.good("broker", "who-may", "devices/a/t")
    assert "its own prefix" in said and "its role, operator" in said
    status, out, _ = home.run("broker", "who-may", "weather/raw", "b")
    assert status == 1
    assert "neither read nor write" in out and "b is denied weather/raw" in out
    status, out, _ = home.run("broker", "who-may", "nothing/of/that")
    assert (status, out) == (1, "Nobody may read or write nothing/of/that.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("allow", "greenhouse", "read", "a/#/b"), "is no topic for a rule: + stands for a whole"),
        (("allow", "a/b", "read", "t"), "is no device id"),
        (("deny", "pump", "read", "a b"), "leave read out: securemqtt broker deny pump 'a b'; a"),
        (("deny", "greenhouse", "~/t"), "an identity has all of its own prefix already"),
        (("rules", "--remove", "1"), "there is no rule 1: securemqtt broker rules shows them"),
        (("group", "green house", "a"), "is no name of a group"),
        (("group", "nobody"), "there is no group nobody: name the ids"),
        (("group", "pump", "other"), "pump is the id of a device: choose another name"),
        (("who-may", "a/#/b"), "is no topic: + stands for a whole level"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_mistakes(home: Home, arguments: tuple[str, ...], said: str) -> None:
    home.good("ca", "device", "pump")
    assert said in home.bad("broker", *arguments)
    assert read_rules(home.ca).number == 0


def test_a_group_cannot_take_a_devices_name_nor_the_other_way_round(home: Home) -> None:
    home.good("ca", "device", "pump", "--group", "greenhouse")
    assert "greenhouse is the name of a group" in home.bad("ca", "device", "greenhouse")
    assert "pump is the id of a device" in home.bad("ca", "device", "valve", "--group", "pump")
    assert home.authority.inventory.entries(subject="valve") == []


def test_a_name_that_nobody_has_is_taken_for_an_id_and_told(home: Home) -> None:
    home.good("ca", "device", "greenhouse-1", "--group", "greenhouse")
    said = home.good("broker", "allow", "grenhouse", "read", "weather/#")
    assert "has no certificate yet (did you mean greenhouse?)" in said


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
def test_a_running_broker_takes_them_up_at_once(home: Home, engine: str) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    pump = home.credentials("pump")
    context = client_context(home.broker / "ca.pem", pump)
    with (
        broker_run(home.directory, "--engine", engine) as process,
        Peer(home.port, context) as peer,
    ):
        peer.connect("pump")
        said = home.good("broker", "allow", "pump", "readwrite", "weather/#")
        assert f"The running broker (process {process.pid}) takes it up now." in said

        def comes() -> bool:
            peer.subscribe("weather/now")
            peer.publish("weather/now", b"sun")
            return ("weather/now", b"sun") in peer.drain()

        wait_until(comes)


def test_a_broker_elsewhere_gets_the_file(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    home.directory.joinpath("broker").rename(tmp_path / "broker")
    home.good("ca", "device", "a", "--group", "greenhouse")
    said = home.good("broker", "allow", "greenhouse", "read", "weather/#")
    assert f"A broker elsewhere needs {home.ca / 'rules.json'} in its directory" in said
    elsewhere.mkdir()
    (tmp_path / "broker").rename(elsewhere / "broker")
    shutil.copy(home.ca / "rules.json", elsewhere / "broker")
    home.directory.rename(tmp_path / "away")
    elsewhere.rename(home.directory)
    _, out, err = home.run("broker", "reload")
    assert "the authority is not here" in out + err
    assert "topic read weather/#" in acl(home)
    assert "weather/#" in home.good("broker", "rules")
    assert "there is no certificate authority in" in home.bad("broker", "deny", "a", "weather/#")


def test_rules_of_an_older_backup_do_not_count(home: Home, tmp_path: Path) -> None:
    home.good("broker", "allow", "pump", "read", "weather/#")
    shutil.copytree(home.ca, tmp_path / "backup")
    home.good("broker", "deny", "pump", "weather/raw")
    shutil.rmtree(home.ca)
    shutil.copytree(tmp_path / "backup", home.ca)
    home.good("broker", "reload")
    assert "topic deny weather/raw" in acl(home)
    assert len(read_rules(home.ca).lines) == 2


def test_the_newer_rules_are_shown_wherever_they_are(home: Home) -> None:
    """As after ca/ alone was restored, until a reload."""
    home.good("broker", "allow", "pump", "write", "alarm")
    before = (home.ca / "rules.json").read_bytes()
    home.good("broker", "deny", "pump", "alarm")
    (home.ca / "rules.json").write_bytes(before)
    shown = home.good("broker", "rules"), home.run("broker", "status")[1]
    assert "pump  is denied  alarm" in shown[0] and "2; groups: none" in shown[1]
    newer = (home.broker / "rules.json").read_bytes()
    (home.broker / "rules.json").write_bytes(before)
    (home.ca / "rules.json").write_bytes(newer)
    assert home.good("broker", "rules") == shown[0]
    assert "2; groups: none" in home.run("broker", "status")[1]
    status, out, _ = home.run("broker", "who-may", "alarm", "pump")
    assert status == 1 and "pump is denied alarm" in out


def test_a_topic_called_read_can_be_denied(home: Home) -> None:
    assert "pump is denied read." in home.good("broker", "deny", "pump", "read")


def test_a_group_ends_with_its_last_member_and_rule_in_either_order(home: Home) -> None:
    for first, second in (("group", "rules"), ("rules", "group")):
        home.good("ca", "device", f"{first}-1", "--group", "greenhouse")
        home.good("broker", "allow", "greenhouse", "read", "weather/#")
        ends = {
            "group": ("group", "greenhouse", "--remove", f"{first}-1"),
            "rules": ("rules", "--remove", "1"),
        }
        home.good("broker", *ends[first])
        assert "greenhouse" in home.good("broker", "rules")
        home.good("broker", *ends[second])
        assert home.good("broker", "rules").startswith("There are no rules: ")
