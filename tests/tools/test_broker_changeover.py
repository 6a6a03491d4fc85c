"""A home that gets another kind of broker: what stays behind, which one runs and what it enforces,
and what happens where the new one does not start.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.lock import LOCK, Noted, holding, note, noted
from securemqtt_tools.cli import FatalError
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.mqtt import WAIT_S, Peer, client_context
from support.brokers.rabbitmq import require_rabbitmq
from support.network.net import wait_until
from support.requirements import require_program
from support.speed import seconds


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    """A home for Mosquitto."""
    require_program("mosquitto")
    made = Home(tmp_path / "home", capsys, broker=False)
    set_up(made, "mosquitto")
    return made


def set_up(home: Home, kind: str) -> str:
    """Set the broker up for a kind; return what is said."""
    options = ("--for", kind, "--port", str(home.port), "--force")
    return home.good("broker", "init", "localhost", *options)


def lines_until(process: subprocess.Popen[str], word: str) -> list[str]:
    """Return the lines that it says up to the one with a word."""
    assert process.stdout is not None
    found: list[str] = []
    while not found or word not in found[-1]:
        found.append(process.stdout.readline())
        assert found[-1], (found, process.communicate(timeout=seconds(20)))
    return found


def kind_of(home: Home) -> str:
    """Return the kind of broker that `status` tells."""
    (line,) = [one for one in home.run("broker", "status")[1].splitlines() if "kind " in one]
    return line.removeprefix("kind").strip()


def test_what_stays_behind_and_comes_back_is_said(home: Home) -> None:
    data = home.broker.resolve() / "data"
    assert "Note" not in set_up(home, "amqtt")  # nothing has run yet
    assert "Note" not in set_up(home, "mosquitto")
    with broker_run(home.directory):
        pass
    assert any(data.iterdir())
    assert "Note" not in set_up(home, "mosquitto")
    said = set_up(home, "amqtt")
    assert f"stays with Mosquitto, in {data}: the embedded broker has none of it. Should" in said
    assert "Note" not in set_up(home, "amqtt")
    said = set_up(home, "mosquitto")
    assert f"Mosquitto still has what it kept when it ran here before, in {data}: what" in said


def test_a_reload_names_the_broker_that_runs_from_then_on(home: Home) -> None:
    with broker_run(home.directory) as process:
        assert kind_of(home) == "mosquitto"
        # that may not have saved anything yet
        assert "stays with Mosquitto" in set_up(home, "amqtt")
        assert kind_of(home) == "mosquitto; amqtt from securemqtt broker reload on"
        home.good("broker", "reload")
        *_, restarted, left, trying = lines_until(process, "it is for trying things out")
        assert restarted.startswith("Restarted: The embedded broker (amqtt) runs from now on, in ")
        assert "in the place of Mosquitto 2." in restarted
        assert left.startswith("Note: what is retained, and what waits for devices that are away")
        assert trying.startswith("Note: ")
        wait_until(lambda: kind_of(home) == "amqtt", seconds(20))


def test_what_runs_counts_and_not_what_the_settings_say(home: Home) -> None:
    sentence = "looks at no address: with it, the networks of pump are not enforced"
    home.credentials("pump")
    with broker_run(home.directory, "--engine", "amqtt"):
        assert sentence not in home.good("broker", "network", "pump", "192.0.2.0/24")
        assert sentence not in home.good("broker", "reload")
        assert kind_of(home) == "amqtt, by broker run --engine; it is set up for mosquitto"
    set_up(home, "amqtt")
    with broker_run(home.directory, "--engine", "mosquitto"):
        assert sentence in home.good("broker", "network", "pump", "198.51.100.0/24")
        assert sentence in home.good("broker", "reload")
        assert kind_of(home) == "mosquitto, by broker run --engine; it is set up for amqtt"
    assert kind_of(home) == "amqtt"
    home.good("broker", "init", "localhost", "--port", str(home.port), "--force")
    assert kind_of(home) == "auto, mosquitto here"


def test_what_comes_from_a_backup_is_not_taken_for_what_runs(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    assert noted(tmp_path) is None
    with holding(tmp_path) as lock:
        assert noted(tmp_path) is None
        note(lock, Noted("mosquitto", None))
        assert noted(tmp_path) == Noted("mosquitto", None)
        note(lock, Noted("amqtt", "auto"))
        assert noted(tmp_path) == Noted("amqtt", "auto")
        for content in ("1 hivemq -", f"{os.getpid()} \x1b[2J -", "", f"{os.getpid()}", "\udcff"):
            path.write_bytes(content.encode("utf-8", "surrogateescape"))
            assert noted(tmp_path) is None
        note(lock, Noted("amqtt", None))
    assert noted(tmp_path) is None


def test_one_that_is_not_here_leaves_the_one_that_runs(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HIVEMQ_HOME", raising=False)
    pump = home.credentials("pump")
    with (
        broker_run(home.directory) as process,
        Peer(home.port, client_context(home.broker / "ca.pem", pump)) as peer,
    ):
        peer.connect("pump")
        options = ("--for", "hivemq", "--port", str(home.port), "--force")
        assert "set HIVEMQ_HOME" in home.warned("broker", "init", "localhost", *options)
        home.good("broker", "reload")
        (said,) = lines_until(process, "eload")[-1:]
        assert said.startswith("Not reloaded: set HIVEMQ_HOME to the directory of HiveMQ CE")
        assert "Until a reload succeeds" in said
        peer.subscribe("devices/pump/t")
        peer.publish("devices/pump/t", b"here")
        assert peer.receive() == ("devices/pump/t", b"here")


@pytest.mark.brokers
def test_one_whose_files_cannot_be_written_leaves_the_one_that_runs(home: Home) -> None:
    require_rabbitmq()
    pump = home.credentials("pump")
    with (
        BrokerProcess(home.broker) as broker,
        Peer(home.port, client_context(home.broker / "ca.pem", pump)) as peer,
    ):
        peer.connect("pump")
        pid = broker.pid
        set_up(home, "rabbitmq")
        (home.broker / "rabbitmq").write_text("no directory")
        with pytest.raises(FatalError, match="Not a directory"):
            broker.reload()
        assert (broker.engine, broker.pid) == ("mosquitto", pid)
        peer.publish("devices/pump/t", b"here")


def test_one_that_does_not_start_brings_the_one_of_before_back(home: Home) -> None:
    config = BrokerConfig.open(home.broker)
    pump = home.credentials("pump")
    with BrokerProcess(home.broker) as broker, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config.changed(engine="amqtt", port=port)
        with pytest.raises(FatalError, match=r"; Mosquitto 2\..* runs again, as before$"):
            broker.reload()
        assert (broker.running, broker.engine, broker.port) == (True, "mosquitto", home.port)
        assert home.lets_in("pump", pump)
        taken.close()
        assert broker.reload()
        assert (broker.engine, broker.port) == ("amqtt", port)


@pytest.mark.brokers
def test_rabbitmq_in_the_place_of_another_is_told_of_new_devices(home: Home) -> None:
    require_rabbitmq()
    pump = home.credentials("pump")
    with broker_run(home.directory) as process:
        assert home.lets_in("pump", pump)
        set_up(home, "rabbitmq")
        home.good("broker", "reload")
        lines_until(process, "Restarted: RabbitMQ")
        assert home.lets_in("pump", pump)
        fan = home.credentials("fan")
        wait_until(lambda: home.lets_in("fan", fan), WAIT_S)
