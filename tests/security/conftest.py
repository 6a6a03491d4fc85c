"""Fixtures of the security tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.brokers.hivemq import require_hivemq
from support.requirements import require_program

DOORS = [
    (engine, websockets)
    for engine in ("mosquitto", "amqtt", "hivemq")
    for websockets in (False, True)
]


@pytest.fixture(
    scope="module", params=DOORS, ids=lambda door: f"{door[0]}-{'wss' if door[1] else 'tls'}"
)
def door(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """Run a broker for the tests of a module: with each engine, entered by each transport."""
    engine, websockets = request.param
    if engine == "mosquitto":
        require_program("mosquitto")
    if engine == "hivemq":
        require_hivemq()
    with open_door(authority, tmp_path_factory.mktemp("door"), engine, websockets) as opened:
        yield opened
