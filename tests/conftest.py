"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.rules_file import NAME as RULES_NAME
from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard import SimulatedBoard
from support.brokers.hivemq import hivemq_installed, require_hivemq
from support.requirements import describe_program, find_program, require_program
from support.speed import VARIABLE, seconds, slowness

_VERSION = (
    "import sys; print(*sys.implementation.version[:3], sep='.', end=', '); print(sys.version)"
)


def pytest_configure(config: pytest.Config) -> None:
    """Undo what a shell hands on to the programs under test: that a command in the background hears
    no Ctrl-C, and a Python that writes out each line at once, as few users have it.

    The limit of a test follows the machine's speed, too, which this is the first to ask for: before
    there are workers, which are told. Hypothesis's own, of 200 ms, would be for the machine's load.
    """
    if config.option.timeout is None:
        config.option.timeout = seconds(float(config.getini("timeout")))
    hypothesis.settings.register_profile("securemqtt", deadline=None)
    hypothesis.settings.load_profile("securemqtt")
    for name in ("micropython", "mosquitto"):
        try:
            find_program(name)
        except FileNotFoundError as error:
            raise pytest.UsageError(str(error)) from error
    SimulatedBoard.patience_s = seconds(30)
    os.environ.pop("PYTHONUNBUFFERED", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    """Say how slow the machine is held to be, and what the tests run beside this interpreter."""
    micropython = describe_program("micropython", "-c", _VERSION)
    return [
        f"speed: {slowness():.1f} times slower than the reference ({VARIABLE})",
        f"MicroPython: {micropython}",
        f"Mosquitto: {describe_program('mosquitto', '-h')}",
    ]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a certificate authority for the whole session, its key unencrypted.

    Tests issue under ids of their own.
    """
    return Authority.create(
        tmp_path_factory.mktemp("authority") / "ca", name="securemqtt test", passphrase=None
    )


@pytest.fixture(scope="module", autouse=True)
def _rules_end_with_the_module(authority: Authority) -> Iterator[None]:
    """Delete what a module's tests left of rules beside the session's authority, which other
    modules' brokers would go by, those that come later on the same worker.
    """
    yield
    (authority.directory / RULES_NAME).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def broker(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerProcess]:
    """Run Mosquitto with mutual TLS on free ports of loopback, MQTT and WebSockets; `controller` is
    an operator.
    """
    require_program("mosquitto")
    directory = tmp_path_factory.mktemp("broker")
    BrokerConfig.create(
        directory,
        authority,
        names=["localhost", "127.0.0.1"],
        port=0,
        websockets_port=0,
        roles={"controller": "operator"},
    )
    with BrokerProcess(directory, engine="mosquitto") as running:
        yield running


@pytest.fixture(scope="session")
def hivemq(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerProcess]:
    """Run HiveMQ CE as `broker` runs Mosquitto; `watcher` is a monitor. It takes its time to start,
    so what uses it should be in one group of xdist.
    """
    require_hivemq()
    config = BrokerConfig.create(
        tmp_path_factory.mktemp("hivemq") / "broker",
        authority,
        names=["localhost", "127.0.0.1"],
        port=0,
        websockets_port=0,
        roles={"controller": "operator", "watcher": "monitor"},
    )
    with hivemq_installed(), BrokerProcess(config.directory, engine="hivemq") as running:
        yield running
