"""The board's radio: a Wi-Fi station, the access point that is switched from outside, and the way
to the network.

A name resolves, and a socket gets through, only while the station is connected. When it is not,
what was open goes silent on both sides. When it is back, the board's old sockets are reset; their
far sides learn of it when they send.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

from .door import Door
from .link import Connection, Link, reset_connection
from .terminal import start_task

_JOIN_S = 0.2  # association and DHCP; on hardware it is seconds
_ANSWER_S = 0.3  # how long a destination may take before the door is silent for a while
_DOORS = 32
_NAME_UNKNOWN = -2  # EAI_NONAME, as lwIP and the unix port give it
_ADDRESS = "192.0.2.2"
_RSSI = -55

# What WLAN.status() gives in the two families of firmware.
STATES = {
    "rp2": {
        "IDLE": 0,
        "CONNECTING": 1,
        "GOT_IP": 3,
        "CONNECT_FAIL": -1,
        "NO_AP_FOUND": -2,
        "WRONG_PASSWORD": -3,
    },
    "esp32": {
        "IDLE": 1000,
        "CONNECTING": 1001,
        "GOT_IP": 1010,
        "BEACON_TIMEOUT": 200,
        "NO_AP_FOUND": 201,
        "WRONG_PASSWORD": 202,
        "CONNECT_FAIL": 203,
    },
}


class Radio:
    """Station and access point.

    `hosts` gives names an address of their own, before the host's resolver is asked.
    """

    def __init__(
        self,
        ssid: str | None,
        password: str | None,
        hosts: dict[str, str],
        states: dict[str, int],
        rejoins: bool,
    ) -> None:
        self.hosts = hosts
        self.states = states
        self.access_point = True
        self._ssid = ssid
        self._password = password
        self._rejoins = rejoins
        self._active = False
        self._state = "IDLE"
        self._wanted: tuple[str | None, str | None] | None = None
        self._joining: asyncio.Task[None] | None = None
        self._doors: dict[tuple[str, int], Door] = {}
        self._links: set[Link] = set()
        self._cut: set[Link] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def connected(self) -> bool:
        """Return True if the station has an address and the access point is there."""
        return self._state == "GOT_IP"

    def describe(self) -> dict[str, Any]:
        """Return what `network.WLAN` shows."""
        return {
            "active": self._active,
            "state": self._state,
            "ssid": (self._wanted or (None,))[0] or "",
            "address": _ADDRESS if self.connected else "0.0.0.0",  # noqa: S104  (no address, not a bind)
            "rssi": _RSSI if self.connected else 0,
        }

    def scan(self) -> list[tuple[str, int]]:
        """Return name and signal strength of what is in range."""
        return [(self._ssid or "simulated", _RSSI)] if self.access_point else []

    def set_active(self, active: bool) -> None:
        """Power the station up or down."""
        self._active = active
        if not active:
            self.leave()

    def join(self, ssid: str | None, password: str | None) -> None:
        """Begin to join a network; `describe` shows how it goes."""
        self.leave()
        self._wanted = (ssid, password)
        self._state = "CONNECTING"
        self._joining = self._start(self._join())

    def leave(self) -> None:
        """Leave the network, or stop joining one."""
        self._wanted = None
        if self._joining is not None:
            self._joining.cancel()
            self._joining = None
        self._go("IDLE")

    def switch(self, on: bool) -> None:
        """Switch the access point on or off."""
        if on == self.access_point:
            return
        self.access_point = on
        if not on and self.connected:
            self._go("BEACON_TIMEOUT" if "BEACON_TIMEOUT" in self.states else "CONNECT_FAIL")
        elif on and self._rejoins and self._wanted is not None:
            self.join(*self._wanted)

    def power_off(self) -> None:
        """Forget everything, as a board does that loses its power or is reset: the far sides hear
        nothing.
        """
        self.set_active(False)

    async def resolve(self, host: str, port: int, kind: int) -> int:
        """Open a door to a destination; return its port on loopback.

        Raises:
            OSError: -2 without a connection, or when the name is not known.
        """
        if not self.connected:
            raise OSError(_NAME_UNKNOWN, "no network")
        address = await _look_up(self.hosts.get(host, host), port)
        if not self.connected:
            raise OSError(_NAME_UNKNOWN, "no network")
        self._make_room((host, port))
        door = self._doors[host, port] = Door(address, self._visit)
        if kind != socket.SOCK_DGRAM:
            await self._try(door)
        return door.port

    async def close(self) -> None:
        """Shut all doors and links."""
        self.power_off()
        for door in self._doors.values():
            door.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _make_room(self, destination: tuple[str, int]) -> None:
        if destination in self._doors:
            self._doors.pop(destination).close()
        while len(self._doors) >= _DOORS:
            self._doors.pop(next(iter(self._doors))).close()

    async def _try(self, door: Door) -> None:
        """Let the door answer as its destination does: a connection is made in advance, and the
        first visitor gets it.
        """
        attempt = asyncio.create_task(asyncio.open_connection(*door.address))
        await asyncio.wait({attempt}, timeout=_ANSWER_S)
        if attempt.done():
            await self._answer(door, attempt)
        else:
            await door.go_silent()
            self._start(self._answer_late(door, attempt))

    async def _answer(self, door: Door, attempt: asyncio.Task[Connection]) -> None:
        error = attempt.exception()
        if error is None:
            await door.let_in(attempt.result())
        # the latter from who hangs up at once
        elif not isinstance(error, (ConnectionRefusedError, ConnectionResetError)):
            await door.go_silent()

    async def _answer_late(self, door: Door, attempt: asyncio.Task[Connection]) -> None:
        await asyncio.wait({attempt})
        if door in self._doors.values() and self.connected:
            await self._answer(door, attempt)
        elif attempt.exception() is None:
            reset_connection(attempt.result())

    async def _visit(self, door: Door, board: Connection) -> None:
        """Join a connection of the board to its destination and carry it."""
        far = door.take_spare()
        try:
            far = far or await asyncio.open_connection(*door.address)
        except OSError:
            reset_connection(board)
            return
        link = Link(board, far)
        self._links.add(link)
        if not self.connected:
            self._cut_links()
        ended = await link.run()
        self._links.discard(link)
        if ended:
            self._cut.discard(link)

    async def _join(self) -> None:
        await asyncio.sleep(_JOIN_S)
        ssid, password = self._wanted or (None, None)
        if not self.access_point or (self._ssid is not None and ssid != self._ssid):
            self._go("NO_AP_FOUND")
        elif self._password is not None and password != self._password:
            self._go("WRONG_PASSWORD")
        else:
            self._go("GOT_IP")

    def _go(self, state: str) -> None:
        was_connected = self.connected
        self._state = state
        if was_connected and not self.connected:
            self._cut_links()
            for door in self._doors.values():
                self._start(door.go_silent())
        elif self.connected and not was_connected:
            for link in self._cut:
                self._start(link.bury())
            self._cut.clear()
            for door in self._doors.values():
                self._start(door.let_in())

    def _cut_links(self) -> None:
        for link in self._links:
            link.cut()
        self._cut |= self._links

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = start_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _look_up(host: str, port: int) -> tuple[str, int]:
    """Resolve a name to IPv4, which is all that most firmware has."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise OSError(_NAME_UNKNOWN, "name unknown") from None
    address, number = found[0][4][:2]
    return str(address), int(number)
