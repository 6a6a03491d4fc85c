"""What the scenarios run against, made for the occasion: an authority, a broker on an address that
the board reaches, a relay before it; and doing what a scenario wants done to them.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from securemqtt import Client
from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.files import write_files
from securemqtt_tools.provision.bundle import (
    CONFIG,
    Settings,
    anchor_files,
    config_text,
    identity_files,
)
from securemqtt_tools.selftest.relay import Relay

DEVICE = "selftest"
_OPERATOR = "operator"
_HELPER = "helper"
_PUBLISH_S = 120
# Any port: nothing is sent by this.
_DISCARD = 9


class Surroundings:
    """A broker that runs behind a relay, and the bundles for it."""

    def __init__(
        self, address: str, authority: Authority, broker: BrokerProcess, relay: Relay, helper: Path
    ) -> None:
        self.address = address
        self.broker = broker
        self._authority = authority
        self._relay = relay
        self._helper = helper
        self._floods: list[threading.Thread] = []

    def bundles(self) -> dict[str, dict[str, bytes]]:
        """Return the files of the bundles that the board needs: the device's, which goes through
        the relay, and an operator's, which does not.
        """
        return {
            "device": _bundle(self._authority, DEVICE, self.address, self._relay.port, der=True),
            "operator": _bundle(
                self._authority, _OPERATOR, self.address, self.broker.port, der=True
            ),
        }

    def closed_port(self) -> int:
        """Return a port on which nobody listens."""
        with socket.create_server((self.address, 0)) as listener:
            port: int = listener.getsockname()[1]
            return port

    def act(self, wish: str) -> None:
        """Do what a scenario wants. Raise FatalError for what is not known here."""
        words = wish.split()
        done = {
            "broker start": self.broker.start,
            "broker stop": self.broker.stop,
            "broker restart": self.broker.restart,
            "broker forget": self._forget,
            "proxy reset": self._relay.reset,
        }
        if wish in done:
            done[wish]()
        elif words[0] in ("up", "down") and words[1:] in (["hold"], ["release"]):
            direction = self._relay.up if words[0] == "up" else self._relay.down
            direction.held = words[1] == "hold"
        elif words[0] == "flood":
            count, qos, size = map(int, words[2:])
            texts = [f"{number:05}".ljust(size, ".") for number in range(count)]
            self._flood([words[1]] * count, texts, qos)
        elif words[0] == "retain":
            numbers = [str(number) for number in range(int(words[2]))]
            self._publish([words[1] + number for number in numbers], numbers, 1, retain=True)
        else:
            raise FatalError(f"a scenario wants what this version does not know: {wish!r}")

    def settle(self) -> None:
        """Put back what a scenario that broke off may have left: held bytes, a broker that is
        down, messages under way.
        """
        self._relay.up.held = self._relay.down.held = False
        self._relay.reset()
        self.broker.start()
        while self._floods:
            self._floods.pop().join()

    def _forget(self) -> None:
        self.broker.stop()
        data = self.broker.directory / "data"
        shutil.rmtree(data)
        data.mkdir(mode=0o700)
        self.broker.start()

    def _flood(self, topics: list[str], texts: list[str], qos: int) -> None:
        before = self._floods[-1:]

        def publish() -> None:
            for one in before:
                one.join()
            self._publish(topics, texts, qos, retain=False)

        flood = threading.Thread(target=publish, name="flood", daemon=True)
        self._floods.append(flood)
        flood.start()

    def _publish(self, topics: list[str], texts: list[str], qos: int, *, retain: bool) -> None:
        with Client(
            str(self._helper),
            clean_session=True,
            outbox_messages=20_000,
            outbox_bytes=64 << 20,
            status=False,
        ) as client:
            for topic, text in zip(topics, texts, strict=True):
                client.publish(topic, text, qos, retain)
            client.flush(_PUBLISH_S)


@contextmanager
def surroundings(address: str, engine: str) -> Iterator[Surroundings]:
    """Run a broker with certificates of its own for the block; nothing of it is left behind.

    Raise FatalError where there is none to run, or the address is not this machine's.
    """
    with TemporaryDirectory(prefix="securemqtt-selftest-") as name:
        directory = Path(name)
        authority = Authority.create(directory / "ca", name="securemqtt selftest", passphrase=None)
        config = BrokerConfig.create(
            directory / "broker",
            authority,
            names=[address],
            bind=address,
            port=0,
            roles={_OPERATOR: "operator", _HELPER: "operator"},
            save_each_change=True,
        )
        try:
            with (
                BrokerProcess(config.directory, engine=engine) as broker,
                Relay(address, broker.port) as relay,
            ):
                helper = directory / "helper"
                write_files(helper, _bundle(authority, _HELPER, address, broker.port, der=False))
                place = Surroundings(address, authority, broker, relay, helper)
                yield place
                place.settle()
        except OSError as error:
            raise FatalError(f"cannot listen on {address}: {error.strerror}") from error


def address_towards(board_address: str) -> str:
    """Return the address by which a board on the same network reaches this machine.

    Raise FatalError if there is no way.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((board_address, _DISCARD))
            found: str = probe.getsockname()[0]
            return found
    except OSError as error:
        raise FatalError(
            f"this machine has no way to the board's network ({error.strerror}): put both into "
            "the same one, or name this machine's address there with --address"
        ) from error


def _bundle(
    authority: Authority, client_id: str, host: str, port: int, *, der: bool
) -> dict[str, bytes]:
    issued = authority.issue_device(client_id, renew=True)
    anchors = anchor_files(authority.trust_anchors(), {}, der=der)
    identity = identity_files(issued, {}, der=der)
    config = config_text(
        Settings(client_id, host, port),
        {**anchors.names, **identity.names},
        {},
        int(authority.now.timestamp()) - 60,
    )
    return {**anchors.content, **identity.content, CONFIG: config or b""}
