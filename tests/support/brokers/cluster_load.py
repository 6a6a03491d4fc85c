"""Many devices that publish and are commanded, all with QoS 1 and kept sessions: what was lost, and
how long the way was closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from securemqtt.aio import Client, Messages

Key = tuple[str, int]
# Published until each has come: before that a subscription may not stand yet.
_PROBE = -1


class Way:
    """Messages of one direction: when each was published, and which have arrived."""

    def __init__(self) -> None:
        self.sent: dict[Key, float] = {}
        self.arrived: set[Key] = set()
        self.twice = 0
        self.open: set[str] = set()  # to or from whom a probe has come
        self._since = 0.0
        self.open_again: dict[str, float] = {}

    def publishes(self, key: Key) -> None:
        """Note one that is about to be published."""
        self.sent[key] = time.monotonic()

    def arrives(self, key: Key) -> None:
        """Note one that has come."""
        if key[1] == _PROBE:
            self.open.add(key[0])
            return
        if key in self.arrived:
            self.twice += 1
            return
        self.arrived.add(key)
        if self.sent[key] >= self._since:
            self.open_again.setdefault(key[0], time.monotonic() - self._since)

    def mark(self) -> None:
        """Begin to note for each device how long after this moment something comes that was
        published after it.
        """
        self._since = time.monotonic()
        self.open_again = {}

    @property
    def missing(self) -> int:
        """How many have not come yet."""
        return len(self.sent) - len(self.arrived)


class Load:
    """Devices that publish, each once in `every_s`, to a hub that commands each half as often."""

    def __init__(self, bundles: Sequence[Path], hub: Path, every_s: float) -> None:
        """A bundle's directory has the name of its device."""
        self._bundles = {one.name: one for one in bundles}
        self._hub = hub
        self._every_s = every_s
        self._stop = asyncio.Event()
        self.readings, self.commands = Way(), Way()

    async def run(self) -> None:
        """Run until `stop`, and until all has arrived."""
        await asyncio.gather(self._be_hub(), *map(self._be_device, self._bundles))

    def stop(self) -> None:
        """Have nothing more be published."""
        self._stop.set()

    def mark(self) -> None:
        """Begin to measure how long it takes until all is open."""
        self.readings.mark()
        self.commands.mark()

    def recovered_s(self) -> list[float]:
        """Return for each device how long after the mark both ways were open, sorted; nothing until
        all are.
        """
        ways = self.readings.open_again, self.commands.open_again
        if any(len(one) < len(self._bundles) for one in ways):
            return []
        return sorted(max(one[device] for one in ways) for device in self._bundles)

    @property
    def _is_open(self) -> bool:
        return all(len(one.open) == len(self._bundles) for one in (self.readings, self.commands))

    @property
    def missing(self) -> int:
        """How many messages have not arrived yet."""
        return self.readings.missing + self.commands.missing

    async def _be_device(self, device_id: str) -> None:
        async with Client(self._bundles[device_id], status=False) as client:
            commands = client.messages("~/command/n")
            listens = asyncio.create_task(
                self._listen(commands, lambda _: device_id, self.commands)
            )
            await self._publish(client, {device_id: "~/n"}, self.readings, self._every_s)
        await listens

    async def _be_hub(self) -> None:
        topics = {one: f"devices/{one}/command/n" for one in self._bundles}
        async with Client(self._hub, status=False) as client:
            readings = client.messages("devices/+/n")
            listens = asyncio.create_task(
                self._listen(readings, lambda topic: topic.split("/")[1], self.readings)
            )
            await self._publish(client, topics, self.commands, 2 * self._every_s)
        await listens

    async def _publish(
        self, client: Client, topics: dict[str, str], way: Way, every_s: float
    ) -> None:
        while not self._is_open:
            for topic in topics.values():
                await client.publish(topic, str(_PROBE))
            await asyncio.sleep(every_s)
        number = 0
        while not self._stop.is_set():
            for one, topic in topics.items():
                way.publishes((one, number))
                await client.publish(topic, str(number))
            number += 1
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait({stopped}, timeout=every_s)
            stopped.cancel()
        while self.missing:  # of anybody's: who has all of his own acknowledges on
            await asyncio.sleep(0.05)

    async def _listen(self, messages: Messages, device_of: Callable[[str], str], way: Way) -> None:
        async for message in messages:
            if (device := device_of(message.topic)) in self._bundles:  # else of an earlier test
                way.arrives((device, int(message.payload)))
