"""amqtt's broker under our rules."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from amqtt.broker import Broker
from amqtt.contexts import Action, ListenerConfig, ListenerType
from amqtt.contexts import BrokerConfig as AmqttConfig
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.embedded.outbound import Backlog, OutboundWindow, Waiting
from securemqtt_tools.broker.rules import READ, WRITE, allows, permitted

LISTENER = "default"
_BUSY = 10_000  # messages on their way through the broker before it stops reading


class RuledBroker(Broker):
    """amqtt's broker with our rules, also where amqtt applies none: wills, retained messages,
    sessions taken up again.
    """

    def __init__(self, config: BrokerConfig) -> None:
        # amqtt opens no port itself (listener of type external) and loads no plugin: not $SYS, and
        # no log of packets.
        listener = ListenerConfig(type=ListenerType.EXTERNAL)
        super().__init__(AmqttConfig(listeners={LISTENER: listener}, plugins={}))
        self.settings = config
        self._windows: WeakKeyDictionary[BrokerProtocolHandler, OutboundWindow] = (
            WeakKeyDictionary()
        )

    @property
    def overloaded(self) -> bool:
        """Return True if more messages are on their way than should be."""
        return self._broadcast_queue.qsize() + len(self._tasks_queue) > _BUSY

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        # admission made them so
        return session.client_id is not None and session.client_id == session.username

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        kind = WRITE if action == Action.PUBLISH else READ
        return allows(permitted(session.client_id or "", self.settings.roles, kind), topic)

    async def _handle_disconnect(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        disconnect_waiter: asyncio.Future[object],
    ) -> None:
        will_topic = client_session.will_topic or ""
        if not await self._topic_filtering(client_session, will_topic, Action.PUBLISH):
            client_session.will_flag = False
        await super()._handle_disconnect(client_session, handler, disconnect_waiter)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        # amqtt calls this at each connection for the subscriptions of everybody.
        own = any(
            one.client_id == session.client_id
            for one, _ in self._subscriptions.get(subscription[0], ())
        )
        if own and await self._topic_filtering(session, subscription[0], Action.SUBSCRIBE):
            await super()._publish_retained_messages_for_subscription(subscription, session)

    async def _publish_session_retained_messages(self, session: Session) -> None:
        backlog, window = self._backlog(session), self._get_handler(session)
        waiting = [backlog.get_nowait() for _ in range(backlog.qsize())]
        if window is not None:
            for message in waiting:
                sending = window.mqtt_publish(
                    message.topic, message.data, message.qos, retain=False
                )
                self._tasks_queue.append(asyncio.ensure_future(sending))

    async def _retain_broadcast_message(
        self, broadcast: dict[str, Any], qos: int, target_session: Session
    ) -> None:
        self._backlog(target_session).put_nowait(
            Waiting(broadcast["topic"], broadcast["data"], qos)
        )

    def _get_handler(self, session: Session) -> OutboundWindow | None:
        handler = super()._get_handler(session)
        if handler is None:
            return None
        if handler not in self._windows:
            backlog = None if session.clean_session else self._backlog(session)
            self._windows[handler] = OutboundWindow(handler, backlog, self.settings.limits)
        return self._windows[handler]

    async def _stop_handler(self, handler: BrokerProtocolHandler) -> None:
        if handler in self._windows:
            self._windows[handler].close()
        await super()._stop_handler(handler)

    def _backlog(self, session: Session) -> Backlog:
        if not isinstance(session.retained_messages, Backlog):
            session.retained_messages = Backlog(self.settings.limits)
        return session.retained_messages
