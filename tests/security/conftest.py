"""Fixtures of the security tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.requirements import require_program

DOORS = [("mosquitto", False), ("mosquitto", True), ("amqtt", False), ("amqtt", True)]
HIVEMQ = [
    pytest.param(
        ("hivemq", websockets), marks=[pytest.mark.xdist_group("hivemq"), pytest.mark.brokers]
    )
    for websockets in (False, True)
]


@pytest.fixture(
    scope="module",
    params=[*DOORS, *HIVEMQ],
    ids=lambda door: f"{door[0]}-{'wss' if door[1] else 'tls'}",
)
def door(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """Run a broker for the tests of a module: with each engine, entered by each transport."""
    engine, websockets = request.param
    directory = tmp_path_factory.mktemp("door")
    if engine == "hivemq":
        yield Door(request.getfixturevalue("hivemq"), authority, directory, websockets)
        return
    if engine == "mosquitto":
        require_program("mosquitto")
    with open_door(authority, directory, engine, websockets) as opened:
        yield opened
