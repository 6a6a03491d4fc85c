"""The throw-away broker: real clients, real certificates, and nothing left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho
import pytest

from securemqtt import Client, errors
from securemqtt.testing import ThrowawayBroker, broker, throwaway
from securemqtt_tools.broker.mosquitto import program
from support.network.net import wait_until
from support.requirements import require_program
from support.speed import seconds

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30


@pytest.fixture(scope="module", params=["mosquitto", "amqtt"])
def running(request: pytest.FixtureRequest) -> Iterator[ThrowawayBroker]:
    if request.param == "mosquitto":
        require_program("mosquitto")
    with broker(request.param, websockets=True) as made:
        assert made.engine == request.param
        yield made


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _hear(client: Client, topic_filter: str) -> list[Any]:
    """Subscribe and connect; return the list into which the handler puts what it gets."""
    got: list[Any] = []
    client.subscribe(topic_filter, got.append)
    client.connect(WAIT_S)
    return got


def _until(client: Client, got: list[Any], count: int = 1) -> list[tuple[str, bytes]]:
    """Have the client handle what comes until it has got so many messages."""

    def enough() -> bool:
        client.wait(0.05)
        return len(got) >= count

    wait_until(enough, WAIT_S)
    return [(message.topic, message.payload) for message in got]


def test_a_device_reports_and_an_operator_commands(running: ThrowawayBroker) -> None:
    device = running.client("reporting-1")
    commands = _hear(device, "~/command/+")
    hub = running.client("hub", role="operator")
    reports = _hear(hub, "devices/reporting-1/temperature")
    assert device.connected or device.last_error is not None  # Mosquitto may have been restarted
    assert device.publish("~/temperature", 21).wait(WAIT_S)
    assert _until(hub, reports) == [("devices/reporting-1/temperature", b"21")]
    assert hub.publish("devices/reporting-1/command/a", b"x").wait(WAIT_S)
    assert _until(device, commands) == [("devices/reporting-1/command/a", b"x")]


def test_a_device_without_a_role_hears_its_own_only(running: ThrowawayBroker) -> None:
    nosy = running.client("nosy")
    heard = _hear(nosy, "devices/#")
    other = running.client("other")
    other.connect(WAIT_S)
    assert other.publish("~/secret", 1).wait(WAIT_S)
    assert nosy.publish("~/own", 2).wait(WAIT_S)
    own = "devices/nosy/own"
    if running.engine == "mosquitto":  # the embedded broker does not grant such a filter at all
        wait_until(lambda: nosy.wait(0.05) or own in [one.topic for one in heard], WAIT_S)
    nosy.poll()
    assert {message.topic for message in heard} <= {own, "devices/nosy/status"}


def test_a_program_finds_the_bundle_by_the_environment(
    running: ThrowawayBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = running.bundle("found", keep_alive_s=30)
    monkeypatch.setenv("SECUREMQTT_BUNDLE", str(bundle))
    with Client() as client:
        assert client.connected
        assert client.client_id == "found"


def test_websockets(running: ThrowawayBroker) -> None:
    client = running.client("web", transport="wss", port=running.websockets_port)
    client.connect(WAIT_S)
    assert client.publish("~/temperature", 1).wait(WAIT_S)


def test_a_revoked_client_is_told_so(running: ThrowawayBroker) -> None:
    client = running.client("revoked")
    client.connect(WAIT_S)
    running.revoke("revoked")
    wait_until(lambda: not client.connected, WAIT_S)
    client.disconnect()
    with pytest.raises(errors.SecurityError):
        client.connect(WAIT_S)


def test_a_broker_that_dies_and_comes_back(running: ThrowawayBroker) -> None:
    port = running.port
    client = running.client("patient")
    client.connect(WAIT_S)
    running.kill()
    delivery = client.publish("~/temperature", 1)
    assert not delivery.wait(0)
    # Asked for while there is no broker: it has the role when it starts.
    bundle = running.bundle("watcher", role="monitor")
    running.start()
    assert running.port == port
    assert delivery.wait(WAIT_S)
    watcher = Client(str(bundle))
    reports = _hear(watcher, "devices/patient/#")
    # This one does not wait for its subscription, so what comes first may pass it by.
    wait_until(
        lambda: client.publish("~/temperature", 2).wait(WAIT_S) and (watcher.poll() or reports),
        WAIT_S,
    )
    watcher.disconnect()


def test_a_bundle_for_a_board_is_der(running: ThrowawayBroker) -> None:
    bundle = running.bundle("board", board=True)
    assert (bundle / "device.der").read_bytes()[:1] == b"\x30"
    assert (bundle / "device.key.der").read_bytes()[:1] == b"\x30"
    with pytest.raises(errors.WrongEncoding):
        Client(str(bundle))


def test_nothing_passes_a_subscription_by(running: ThrowawayBroker) -> None:
    hub = running.client("punctual-hub", role="operator")
    hub.connect(WAIT_S)
    device = running.client("punctual")
    got = _hear(device, "~/command/first")
    assert hub.publish("devices/punctual/command/first", 0).wait(WAIT_S)
    for number in range(1, 20):
        device.subscribe(f"~/command/{number}", got.append)
        assert hub.publish(f"devices/punctual/command/{number}", number).wait(WAIT_S)
    heard = _until(device, got, 20)
    assert [int(payload) for _, payload in heard] == list(range(20))


def test_its_log_can_be_read(running: ThrowawayBroker) -> None:
    running.client("logged").connect(WAIT_S)
    wait_until(lambda: "logged" in running.log, WAIT_S)


@pytest.mark.parametrize("failure", [None, ValueError, KeyboardInterrupt])
def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException] | None
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        with broker("amqtt") as made:
            (directory,) = tmp_path.iterdir()
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            bundle = made.bundle("device")
            assert stat.S_IMODE((bundle / "device.key").stat().st_mode) == 0o600
            process = made._process.pid
            assert process is not None and _is_running(process)
            client = made.client("device")
            client.connect(WAIT_S)
            if failure is not None:
                raise failure
    except (ValueError, KeyboardInterrupt) as error:
        assert type(error) is failure
    assert list(tmp_path.iterdir()) == []
    assert not _is_running(process)
    assert client.state == "closed"


def test_nothing_is_left_behind_by_a_broker_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # so its interpreter does not start
    with pytest.raises(Exception, match="the broker does not start"), broker("amqtt"):
        pytest.fail("it has started")
    assert list(tmp_path.iterdir()) == []


def test_it_is_mosquitto_where_that_is_installed() -> None:
    require_program("mosquitto")
    with broker() as made:
        assert made.engine == "mosquitto"


def test_it_is_the_embedded_one_where_mosquitto_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "find_mosquitto", lambda: None)
    with broker() as made:
        assert made.engine == "amqtt"
        made.client("device").connect(WAIT_S)
    with pytest.raises(errors.UsageError, match=r"not installed.*apt-get install mosquitto"):
        broker("mosquitto").__enter__()


def test_it_says_what_to_install_where_there_is_no_broker_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "find_mosquitto", lambda: None)
    monkeypatch.setattr(throwaway, "find_spec", lambda name: None)
    remedy = r"needs Mosquitto \(apt-get .*\) or the package amqtt: pip install 'securemqtt\[tools"
    with pytest.raises(ImportError, match=remedy):
        broker().__enter__()


def test_there_are_two_kinds_of_broker() -> None:
    with pytest.raises(errors.UsageError, match=r"no broker 'rabbit'.*auto, mosquitto or amqtt"):
        broker("rabbit").__enter__()


def test_without_the_tools_it_says_what_to_install(tmp_path: Path) -> None:
    """With what `pip install securemqtt` brings and nothing else: no tools, no pytest."""
    (tmp_path / "paho").symlink_to(Path(paho.__path__[0]))
    code = """
from securemqtt.testing import FakeClient, broker
with FakeClient() as client:
    client.publish("~/a", 1)
    print(len(client.fake.published))
with broker():
    print("started")
"""
    path = os.pathsep.join(str(one) for one in (ROOT / "lib", ROOT / "tools", tmp_path))
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "1\n")
    last = done.stderr.splitlines()[-1]
    assert last == (
        "ImportError: securemqtt.testing.broker needs the package cryptography: "
        "pip install 'securemqtt[tools]'"
    )
