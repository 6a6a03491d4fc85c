"""docs/rabbitmq.md, from nothing to a message, and a revocation on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from securemqtt import Client
from securemqtt.errors import UsageError
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.rabbitmq import require_rabbitmq
from support.network.net import wait_until
from support.speed import seconds

pytestmark = [pytest.mark.xdist_group("rabbitmq-page"), pytest.mark.brokers]


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Devices that get their certificates while it runs are let in, and one that is revoked is
    not.
    """
    require_rabbitmq()
    home = Home(tmp_path / "home", capsys, broker=False)
    options = ("--for", "rabbitmq", "--operator", "hub", "--port", str(home.port))
    home.good("broker", "init", "localhost", *options)
    got: list[bytes] = []
    with broker_run(home.directory) as process:
        assert process.stdout is not None
        for one in ("hub", "greenhouse-1"):
            out = tmp_path / one
            home.good("provision", "pi", "--id", one, "--broker", "localhost", "--out", out)
            assert process.stdout.readline() == "Reloaded.\n"
        with pytest.raises(UsageError, match=r"RabbitMQ 3\.10 takes QoS 0 to 1 only, not 2"):
            Client(tmp_path / "hub").publish("~/reading", b"1", qos=2)
        with Client(tmp_path / "hub") as hub, Client(tmp_path / "greenhouse-1") as device:
            hub.subscribe("devices/+/reading", lambda message: got.append(message.payload))

            def heard() -> bool:
                device.publish("~/reading", b"21.5")  # again, until the hub has subscribed
                device.wait(0.05)
                hub.wait(0.05)
                return bool(got)

            wait_until(heard, seconds(30))
            assert set(got) == {b"21.5"}
            home.good("ca", "revoke", "greenhouse-1")
            home.good("broker", "reload")
            wait_until(lambda: (device.wait(0.01), not device.connected)[1], seconds(30))
            assert hub.connected
