"""A broker with certificates for tests: made for one block, and gone without a trace behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from ..client import Client
from ..errors import UsageError
from ..platform import now_ms

# The tools are an extra: none of them is imported before somebody asks for a broker.
if TYPE_CHECKING:
    from collections.abc import Callable

    from securemqtt_tools.broker import BrokerConfig, BrokerProcess
    from securemqtt_tools.pki import Authority

    from ..messages import Message

_HOST = "localhost"
_INSTALL = "pip install 'securemqtt[tools]'"
# What a client of a test has queued still is of no interest to anyone.
_LEAVE_S = 1
_SUBSCRIBE_S = 30
_POLL_MS = 10


class SubscribedClient(Client):
    """A `Client` that goes on only when the broker has answered its subscriptions.

    Without that, what another client publishes right after `connect` may come before they do, and
    a test fails now and then.
    """

    def connect(self, timeout_s: float = 30) -> None:
        """As `Client.connect`. Raise TimeoutError if a subscription is not answered."""
        super().connect(timeout_s)
        self._wait_for_answers()

    def subscribe(
        self,
        topic_filter: str,
        handler: Callable[[Message], None],
        qos: int = 1,
        acknowledge: Literal["handled", "later"] = "handled",
    ) -> None:
        """As `Client.subscribe`. Raise TimeoutError if it is not answered."""
        super().subscribe(topic_filter, handler, qos, acknowledge)
        if self.connected:
            self._wait_for_answers()

    def _wait_for_answers(self) -> None:
        deadline_ms = now_ms() + _SUBSCRIBE_S * 1000
        # SUBACK wakes nobody, so it is looked for again and again.
        while not self._connection.wait_until(self._is_answered, _POLL_MS):
            if now_ms() > deadline_ms:
                raise TimeoutError(f"{self.client_id}: the broker answers no subscription")

    def _is_answered(self) -> bool:
        inbox = self._connection.inbox
        return inbox is None or all(one.unanswered <= 0 for one in inbox.subscriptions.values())


class ThrowawayBroker:
    """A running broker on loopback, with an authority of its own; made by `broker`.

    Belongs to one thread at a time.
    """

    def __init__(
        self, directory: Path, authority: Authority, process: BrokerProcess, stack: ExitStack
    ) -> None:
        self._directory = directory
        self._authority = authority
        self._process = process
        self._stack = stack

    @property
    def host(self) -> str:
        """The name that the broker's certificate has."""
        return _HOST

    @property
    def port(self) -> int:
        """The port for MQTT over TLS."""
        return self._process.port

    @property
    def websockets_port(self) -> int | None:
        """The port for `transport="wss"`, if `broker` was asked for one."""
        return self._process.websockets_port

    @property
    def engine(self) -> str:
        """Which broker it is: mosquitto or amqtt."""
        return self._process.engine

    @property
    def log(self) -> str:
        """What the broker has logged so far."""
        return self._process.log.read_text(errors="replace")

    def bundle(
        self, client_id: str, role: str | None = None, board: bool = False, **settings: Any
    ) -> Path:
        """Issue a certificate for `client_id`; return the directory of its bundle, for `Client`.

        `role` "operator" may read all devices and send them commands, "monitor" may read them; else
        it has its own topics only. `settings` go into config.json. `board`: files as MicroPython
        reads them (DER). Asked for the same id again, it is another certificate in the same place.
        A broker that runs takes the role up at once; Mosquitto may be restarted for that.
        """
        from securemqtt_tools.pki.files import write_files
        from securemqtt_tools.provision.bundle import (
            CONFIG,
            Settings,
            anchor_files,
            config_text,
            identity_files,
        )

        authority = self._authority
        issued = authority.issue_device(client_id, renew=True)
        anchors = anchor_files(authority.trust_anchors(), {}, der=board)
        identity = identity_files(issued, {}, der=board)
        config = config_text(
            Settings(client_id, _HOST, settings.pop("port", self.port)),
            {**settings, **anchors.names, **identity.names},
            {},
            int(authority.now.timestamp()),
        )
        directory = self._directory / "bundles" / client_id
        write_files(directory, {**anchors.content, **identity.content, CONFIG: config or b""})
        roles = dict(self._config().roles)
        if role is not None and roles.get(client_id) != role:
            self._config().changed(roles={**roles, client_id: role})
            self._reload()
        return directory

    def client(self, client_id: str, role: str | None = None, **options: Any) -> SubscribedClient:
        """Return a real `Client` with a certificate for this broker; it is left at the block's end.

        `options` are those of `Client`, `role` is as in `bundle`. When its `connect` or `subscribe`
        returns, the broker has the subscriptions.
        """
        client = SubscribedClient(str(self.bundle(client_id, role)), **options)
        self._stack.callback(client.disconnect, _LEAVE_S)
        return client

    def revoke(self, client_id: str) -> None:
        """Revoke a client's certificate: the broker ends its connection, and lets it in no more."""
        self._authority.revoke(client_id)
        self._config().refresh(self._authority)
        self._reload()

    def start(self) -> None:
        """Start a broker that was stopped or killed, on the same port."""
        self._process.start()

    def stop(self) -> None:
        """End the broker in order. Mosquitto keeps sessions and what is queued."""
        self._process.stop()

    def kill(self) -> None:
        """End the broker at once, as a crash would."""
        self._process.kill()

    def _config(self) -> BrokerConfig:
        from securemqtt_tools.broker import BrokerConfig

        return BrokerConfig.open(self._process.directory)

    def _reload(self) -> None:
        if self._process.running:
            self._process.reload()


@contextmanager
def broker(engine: str = "auto", websockets: bool = False) -> Iterator[ThrowawayBroker]:
    """Run a broker with mutual TLS on free ports of loopback for the `with` block.

    `engine` "auto" is Mosquitto where it is installed, else the embedded amqtt; "mosquitto" and
    "amqtt" are just that. Authority, keys and data are in a temporary directory, the owner's only;
    it is removed at the end, and the broker's process ended, also if the block fails. Raise
    ImportError where the extra `tools` is not installed, UsageError where Mosquitto is not.
    """
    engine = _found(engine)
    from securemqtt_tools.broker import BrokerConfig, BrokerProcess
    from securemqtt_tools.pki import Authority

    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="securemqtt-test-")))
        authority = Authority.create(
            directory / "ca", name="securemqtt throw-away test CA", passphrase=None
        )
        config = BrokerConfig.create(
            directory / "broker",
            authority,
            names=[_HOST, "127.0.0.1"],
            port=0,
            websockets_port=0 if websockets else None,
        )
        process = stack.enter_context(BrokerProcess(config.directory, engine=engine))
        yield ThrowawayBroker(directory, authority, process, stack)


def _found(engine: str) -> str:
    """Return which broker it will be. Raise ImportError or UsageError for what is not there."""
    try:
        from securemqtt_tools.broker.mosquitto import program
    except ModuleNotFoundError as error:
        raise ImportError(
            f"securemqtt.testing.broker needs the package {error.name}: {_INSTALL}"
        ) from error
    if engine not in ("auto", "mosquitto", "amqtt"):
        raise _usage(f"there is no broker {engine!r}", "use auto, mosquitto or amqtt")
    mosquitto = None if engine == "amqtt" else program.find_mosquitto()
    if engine == "mosquitto" and mosquitto is None:
        raise _usage("Mosquitto is not installed", 'apt-get install mosquitto, or engine="amqtt"')
    if mosquitto is None and find_spec("amqtt") is None:
        raise ImportError(
            "securemqtt.testing.broker needs Mosquitto (apt-get install mosquitto) "
            f"or the package amqtt: {_INSTALL}"
        )
    return "amqtt" if mosquitto is None else "mosquitto"


def _usage(what: str, remedy: str) -> UsageError:
    cause = "the test asks for a broker that cannot be run here"
    return UsageError(what, cause=cause, remedy=remedy)
