"""The asyncio face behind the methods of the blocking one, so that the scenarios run over it, too:
what they call is awaited, and handlers run between two awaits, as the body of a loop over
`messages`.

The event loop runs while something is awaited, and stands still in between, as a board's loop does.
"""

import asyncio
import sys

from securemqtt import aio
from securemqtt.platform import now_ms

_loop = asyncio.new_event_loop()


def run(coroutine):
    """Have a coroutine run to its end; return what it returns."""
    return _loop.run_until_complete(coroutine)


class Delivery:
    """What `publish` returns."""

    def __init__(self, delivery):
        self._delivery = delivery

    def __getattr__(self, name):
        return getattr(self._delivery, name)

    def wait(self, timeout_s=30):
        return run(self._delivery.wait(timeout_s))


class _Handler:
    """One subscription: a task takes its messages one by one, and waits until each is handled."""

    def __init__(self, function):
        self.function = function
        self.message = None
        self.handled = asyncio.Event()

    async def listen(self, messages):
        async for message in messages:
            self.handled.clear()
            self.message = message
            await self.handled.wait()


class Client:
    """A client with the methods of `securemqtt.Client`."""

    def __init__(self, bundle=None, **options):
        self._client = aio.Client(bundle, **options)
        self._connection = self._client._connection
        self._handlers = {}
        self._on_error = None
        self._busy = False

    def __getattr__(self, name):  # client_id, state, stats …
        return getattr(self._client, name)

    def connect(self, timeout_s=30):
        run(self._client.connect(timeout_s))
        self._listen()

    def start(self):
        run(self._start())
        self._listen()

    async def _start(self):
        self._client.start()

    def disconnect(self, timeout_s=10):
        run(self._client.disconnect(timeout_s))

    def __enter__(self):
        run(self._client.__aenter__())
        self._listen()
        return self

    def __exit__(self, *exc):
        run(self._client.__aexit__(*exc))

    def on_error(self, function):
        self._on_error = function
        self._client.on_error(function)

    def publish(self, topic, payload, *arguments, **options):
        return Delivery(run(self._client.publish(topic, payload, *arguments, **options)))

    def subscribe(self, topic_filter, function, qos=1):
        messages = self._client.messages(topic_filter, qos)
        handler = self._handlers.get(topic_filter)
        if handler is None:
            self._handlers[topic_filter] = [_Handler(function), messages, None]
        else:
            handler[0].function = function
        self._listen()

    def unsubscribe(self, topic_filter):
        self._client.unsubscribe(topic_filter)
        self._handlers.pop(topic_filter, None)

    def _listen(self):
        """Have a task for each subscription, once there is a connection to be had."""
        if self._client.state != "closed":
            for entry in self._handlers.values():
                if entry[2] is None or entry[2].done():
                    entry[2] = _loop.create_task(entry[0].listen(entry[1]))

    def wait(self, seconds):
        end_ms = now_ms() + int(seconds * 1000)
        handled = False
        while True:
            run(self._serve(0 if handled else end_ms - now_ms()))
            handled = not self._busy and self._handle()
            if now_ms() >= end_ms:
                return

    async def _serve(self, wait_ms):
        """Let the tasks run until one has a message, or the time is over."""
        end_ms = now_ms() + wait_ms
        for _ in range(3):
            await asyncio.sleep(0)
        while now_ms() < end_ms and (self._busy or not self._has_message()):
            await asyncio.sleep(0.005)

    def _has_message(self):
        return any(entry[0].message is not None for entry in self._handlers.values())

    def poll(self):
        self.wait(0)

    def flush(self, timeout_s=30):
        return run(self._client.flush(timeout_s))

    def run_forever(self):
        if self._client.state == "closed":
            from securemqtt.errors import UsageError

            raise UsageError("not started")
        while self._client.state != "closed":
            self.wait(0.05)

    def _handle(self):
        """Call the handlers that have a message; return True if one had."""
        self._busy = True
        handled = False
        try:
            for handler, _, _ in list(self._handlers.values()):
                message, handler.message = handler.message, None
                if message is not None:
                    handled = True
                    try:
                        handler.function(message)
                    except Exception as error:  # noqa: BLE001  (a handler may raise anything)
                        self._failed(error)
                    handler.handled.set()
        finally:
            self._busy = False
        return handled

    def _failed(self, error):
        if self._on_error is None:
            sys.stderr.write("a handler failed: " + repr(error) + "\n")
        else:
            self._on_error(error)
