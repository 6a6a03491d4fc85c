"""amqtt's broker under our rules."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker, RetainedApplicationMessage, Server
from amqtt.contexts import Action, ListenerConfig, ListenerType
from amqtt.contexts import BrokerConfig as AmqttConfig
from amqtt.mqtt.publish import PublishPacket
from amqtt.session import Session

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.embedded.admission import AdmissionReader
from securemqtt_tools.broker.embedded.inbound import InboundHandler
from securemqtt_tools.broker.embedded.outbound import Backlog, OutboundWindow, size_bytes
from securemqtt_tools.broker.rules import READ, WRITE, Access
from securemqtt_tools.broker.rules_file import read_rules

LISTENER = "default"
_REFUSED = 0x80  # in SUBACK
_log = logging.getLogger(__name__)


class RuledBroker(Broker):
    """amqtt's broker with our rules, also where amqtt applies none (wills, retained messages,
    sessions taken up again), and with a delivery that loses nothing: see `outbound`.
    """

    def __init__(self, config: BrokerConfig) -> None:
        # amqtt opens no port itself (listener of type external) and loads no plugin: not $SYS, and
        # no log of packets.
        listener = ListenerConfig(type=ListenerType.EXTERNAL)
        super().__init__(AmqttConfig(listeners={LISTENER: listener}, plugins={}))
        self.take_up(config)
        self._windows: dict[InboundHandler, OutboundWindow] = {}
        self._retained_bytes: Counter[str] = Counter()  # of each client id

    def take_up(self, config: BrokerConfig) -> None:
        """Go by these settings, and by the rules that are in their directory, from now on. Raise
        FatalError, and go on as before, when those cannot be read.
        """
        rules = read_rules(config.directory)
        self.settings, self._rules = config, rules
        self._access: dict[str, Access] = {}  # of each identity that was asked for

    def may_come_from(self, identity: str, address: str) -> bool:
        """Return True if an identity may come from an address."""
        return self._rules.may_come_from(identity, address)

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        # admission made them so
        return session.client_id is not None and session.client_id == session.username

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        return self._allows(session, topic, action)

    def _allows(self, session: Session, topic: str, action: Action) -> bool:
        identity = session.client_id or ""
        access = self._access.get(identity)
        if access is None:
            access = self._rules.access(identity, self.settings.roles.get(identity))
            self._access[identity] = access
        return access.allows(WRITE if action == Action.PUBLISH else READ, topic)

    async def _initialize_client_session(
        self, reader: AdmissionReader, writer: WriterAdapter, address: str, port: int
    ) -> tuple[InboundHandler, Session]:
        _, session = await super()._initialize_client_session(reader, writer, address, port)
        session.will_retain = reader.will_retain  # which amqtt does not note for a kept session
        handler = InboundHandler(self.plugins_manager, self)
        reader.waits = lambda: handler.busy
        return handler, session

    async def _handle_client_session(
        self,
        reader: ReaderAdapter,
        writer: WriterAdapter,
        client_session: Session,
        handler: InboundHandler,
        server: Server,
        listener_name: str,
    ) -> None:
        limits = self.settings.limits
        if not isinstance(client_session.retained_messages, Backlog):
            client_session.retained_messages = Backlog(limits)
        window = OutboundWindow(handler, client_session.retained_messages, limits)
        self._windows[handler] = window
        try:
            await super()._handle_client_session(
                reader, writer, client_session, handler, server, listener_name
            )
        finally:
            window.close()
            del self._windows[handler]
            if client_session.clean_session and self._get_handler(client_session) is handler:
                await self._delete_session(client_session.client_id)

    async def subscribe(self, session: Session, topics: list[tuple[str, int]]) -> list[int]:
        """Note subscriptions; return the codes for SUBACK."""
        return [await self.add_subscription(subscription, session) for subscription in topics]

    def unsubscribe(self, session: Session, topic_filters: list[str]) -> None:
        """Forget subscriptions, and filters that nobody has any more."""
        for topic_filter in topic_filters:
            self._del_subscription(topic_filter, session)
            if not self._subscriptions.get(topic_filter, True):
                del self._subscriptions[topic_filter]

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Note a subscription; one to the same filter takes the place of the first [MQTT-3.8.4-3].

        Return the code for SUBACK. A shared one is refused: amqtt has none, and would take it for
        a topic that nobody writes to.
        """
        topic_filter, _ = subscription
        if topic_filter.startswith("$share/"):
            _log.warning(
                "%s asks for a shared subscription, which this broker does not have: use Mosquitto",
                session.client_id,
            )
            return _REFUSED
        if self._allows(session, topic_filter, Action.SUBSCRIBE):
            self._del_subscription(topic_filter, session)
        code: int = await super().add_subscription(subscription, session)
        return code

    async def _handle_disconnect(
        self,
        client_session: Session,
        handler: InboundHandler,
        disconnect_waiter: asyncio.Future[object],
    ) -> None:
        will_topic = client_session.will_topic or ""
        allowed = self._allows(client_session, will_topic, Action.PUBLISH)
        if not allowed:
            client_session.will_flag = False
        self._windows[handler].close()  # what comes from now on waits for the next connection
        await super()._handle_disconnect(client_session, handler, disconnect_waiter)

    def take(self, session: Session, packet: PublishPacket) -> bool:
        """Take a message; return False for one that must not be."""
        topic, data = packet.topic_name, packet.data
        if topic.startswith("$"):
            _log.warning("%s published to a topic of the broker's own", session.client_id)
            return False
        if self._allows(session, topic, Action.PUBLISH):
            self._hand_out(topic, data, packet.qos)
            if packet.retain_flag:
                self._retain(session, topic, data, packet.qos)
        return True

    async def retain_message(
        self,
        source_session: Session,
        topic_name: str,
        data: bytes,
        qos: int | None = None,
    ) -> None:
        """Keep a will."""
        self._retain(source_session, topic_name, data, qos)

    def _retain(self, session: Session, topic: str, data: bytes, qos: int | None) -> None:
        """Keep a retained message in place of the one before, as far as its sender may; that stays
        if not.
        """
        sender = session.client_id or ""
        more = Counter({sender: size_bytes(topic, data) if data else 0})
        before = self._retained_messages.get(topic)
        if before is not None:
            more[before.source_session.client_id] -= size_bytes(topic, before.data)
        kept = self._retained_bytes[sender] + more[sender]
        if more[sender] > 0 and kept > self.settings.limits.retained_bytes:
            _log.warning("%s has too much retained: not kept on %s", sender, topic)
            return
        self._retained_bytes.update(more)
        if data:
            self._retained_messages[topic] = RetainedApplicationMessage(session, topic, data, qos)
        else:
            self._retained_messages.pop(topic, None)

    async def _broadcast_message(
        self, session: Session | None, topic: str, data: bytes, force_qos: int | None = None
    ) -> None:
        """Hand out a will."""
        self._hand_out(topic, data, force_qos or 0)

    def _hand_out(self, topic: str, data: bytes, published: int) -> None:
        """Give a message once to each who is subscribed, with the lower QoS of the two.

        Clauses MQTT-3.3.5-1 and MQTT-3.8.4-6.
        """
        targets: dict[str, tuple[Session, int]] = {}
        for topic_filter, subscriptions in self._subscriptions.items():
            if self._matches(topic, topic_filter):
                for session, granted in subscriptions:
                    _, before = targets.get(session.client_id, (session, 0))
                    targets[session.client_id] = (session, max(before, granted))
        for session, granted in targets.values():
            if not self._allows(session, topic, Action.RECEIVE):
                continue
            qos = min(published, granted)
            window = self._windows.get(self._get_handler(session))
            if window is not None:
                window.publish(topic, data, qos)
            elif qos and not session.clean_session:
                session.retained_messages.add(topic, data, qos, retain=False)

    async def _publish_session_retained_messages(self, session: Session) -> None:
        """Begin with what has waited for this client."""
        self._windows[self._get_handler(session)].open()

    async def _publish_retained_messages_for_subscription(self, *_: object) -> None:
        """Do nothing: amqtt calls this at each connection for the subscriptions of everybody."""

    async def send_retained(self, session: Session, topics: list[tuple[str, int]]) -> None:
        """Send what is retained, as far as the client may have it."""
        window = self._windows.get(self._get_handler(session))
        if window is None:
            return
        for topic_filter, granted in topics:
            await asyncio.sleep(0)  # each looks at all that is retained
            still = any(
                one.client_id == session.client_id
                for one, _ in self._subscriptions.get(topic_filter, ())
            )  # it may have unsubscribed while SUBACK was on its way
            if still and self._allows(session, topic_filter, Action.SUBSCRIBE):
                for topic, retained in list(self._retained_messages.items()):
                    if self._matches(topic, topic_filter) and self._allows(
                        session, topic, Action.RECEIVE
                    ):
                        qos = min(granted, retained.qos or 0)
                        window.publish(topic, retained.data, qos, retain=True)
