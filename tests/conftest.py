"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.pki import Authority
from support.requirements import require_program


def pytest_configure() -> None:
    """Undo what a shell hands on to the programs under test: that a command in the background hears
    no Ctrl-C, and a Python that writes out each line at once, as few users have it.
    """
    os.environ.pop("PYTHONUNBUFFERED", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a certificate authority for the whole session, its key unencrypted.

    Tests issue under ids of their own.
    """
    return Authority.create(
        tmp_path_factory.mktemp("authority") / "ca", name="securemqtt test", passphrase=None
    )


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
