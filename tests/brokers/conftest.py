"""Fixtures of the tests that ask the same of each broker, from each interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers.capabilities import BROKERS, INTERPRETERS, Stage, lack
from contract.play import CPYTHON
from securemqtt_tools.broker.kinds import HIVEMQ, MOSQUITTO, RABBITMQ, SMALL
from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.brokers.hivemq import require_hivemq
from support.brokers.mqtt import Refused
from support.brokers.rabbitmq import require_rabbitmq
from support.requirements import require_program


def _opened(engine: str, authority: Authority, directory: Path, websockets: bool) -> Iterator[Door]:
    if engine == HIVEMQ:
        require_hivemq()
    elif engine == RABBITMQ:
        require_rabbitmq()
    elif engine == MOSQUITTO:
        require_program("mosquitto")
    with open_door(authority, directory, engine, websockets) as opened:
        yield opened


# One worker runs all that is asked of a broker, so that each is started once.
@pytest.fixture(
    scope="session",
    params=[
        pytest.param(
            engine,
            marks=[
                pytest.mark.xdist_group(f"brokers-{engine}"),
                *([] if engine in SMALL else [pytest.mark.brokers]),
            ],
        )
        for engine in BROKERS
    ],
)
def engine(request: pytest.FixtureRequest) -> str:
    """Return the kind of broker."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def door(
    engine: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """Run a broker for all that is asked of it."""
    yield from _opened(engine, authority, tmp_path_factory.mktemp("door"), False)


@pytest.fixture
def websockets_door(
    engine: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """Run one with WebSockets beside it: with those, Mosquitto before 2.1 does other things less
    well.
    """
    yield from _opened(engine, authority, tmp_path_factory.mktemp("wss"), True)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory for what is compiled for a board, once."""
    return tmp_path_factory.mktemp("board")


@pytest.fixture(params=INTERPRETERS, ids=["cpython", "micropython"])
def interpreter(request: pytest.FixtureRequest, engine: str) -> str:
    """Return what the devices run under. What is known not to work has to fail."""
    kind: str = request.param
    if kind != CPYTHON:
        require_program("micropython")
    known = lack(request.function.__name__, engine, kind)
    if known is not None:
        request.applymarker(
            pytest.mark.xfail(strict=True, raises=(AssertionError, Refused), reason=known.why)
        )
    return kind


@pytest.fixture
def stage(door: Door, interpreter: str, tmp_path: Path, compiled: Path) -> Iterator[Stage]:
    """Make the place of a test."""
    with Stage(door, interpreter, tmp_path, compiled) as made:
        yield made
