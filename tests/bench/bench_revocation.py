"""What revoking one device costs the others: a thousand are connected, ten thousand rules stand."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count

from figures import Figure
from setting import Setting

from support.brokers.doors import Door, open_door
from support.brokers.mqtt import Peer, Refused
from support.identities.credentials import Credentials, client_certificate, signer_of

_CONNECTED = 1000
_ROLES = 10_000
_numbers = count()


def measure(setting: Setting, rounds: int = 1) -> Iterator[Figure]:
    """Yield the figures of Mosquitto: the time from the start of `broker reload` until the device's
    connection is closed, and how many others lost theirs.
    """
    taken_s, broken = [], []
    for _ in range(rounds):
        directory = setting.directory / f"revocation-{next(_numbers)}"
        directory.mkdir()
        with ExitStack() as stack:
            door = stack.enter_context(open_door(setting.authority, directory, "mosquitto"))
            roles = {f"reader-{number}": "monitor" for number in range(_ROLES)}
            door.broker.config.changed(roles=roles)
            door.broker.reload()
            signer = signer_of(door.authority)
            others = []
            for number in range(_CONNECTED):
                device_id = f"other-{number}"
                peer = door.enter(device_id, client_certificate(directory, signer, [device_id]))
                others.append(stack.enter_context(peer))
            device_id = door.new_id()
            taken_s.append(out_s(door, device_id, door.credentials(device_id)))
            broken.append(float(sum(is_broken(peer) for peer in others)))
    yield Figure(f"until one of {_CONNECTED} is out, {_ROLES} rules, s", {64: taken_s})
    yield Figure("others whose connection broke", {64: broken})


def out_s(door: Door, device_id: str, credentials: Credentials) -> float:
    """Revoke a connected device; return the time from the reload until it is out, in seconds."""
    with door.enter(device_id, credentials) as peer:
        door.authority.revoke(device_id)
        door.broker.config.refresh(door.authority)
        began = time.monotonic()
        door.broker.reload()
        peer.wait_closed()
        return time.monotonic() - began


def is_broken(peer: Peer) -> bool:
    """Return True if a connection does not stand any more."""
    with suppress(Refused, ssl.SSLError):
        peer.drain()
        return False
    return True
