"""One contract for both backends: the same programs under CPython and under MicroPython, against
the real Mosquitto, with the limits of our own configuration or with its own, and the embedded
broker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.play import CPYTHON, FORMS, INTERPRETERS, SCENARIOS, Environment, play
from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.config import Limits
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.network.net import free_port
from support.network.proxy import Proxy
from support.requirements import require_program

_numbers = itertools.count()
_NOT_EVERYWHERE = {"threads": (CPYTHON,), "exhausted": FORMS}
# Those that are about a Mosquitto with the limits that it has by itself, or one that is killed.
_SPECIAL = {"busy": "by_itself", "restarting": "saving"}
_NAMES = sorted(
    path.stem
    for path in SCENARIOS.glob("*.py")
    if path.stem not in ("common", "refusing") and not path.stem.startswith("asyncio_")
)
# The embedded broker's sessions end with it, and with them what it has acknowledged.
_NOT_EMBEDDED = ("restarting",)
# Against the embedded broker MicroPython runs the library in one form, as it is on a board.
BLOCKING = [
    pytest.param(name, interpreter, engine, id=f"{name}-{interpreter}-{engine}")
    for name in _NAMES
    for interpreter in _NOT_EVERYWHERE.get(name, INTERPRETERS)
    for engine in ("mosquitto", "amqtt")
    if engine == "mosquitto" or (interpreter != FORMS[0] and name not in _NOT_EMBEDDED)
]
# Written for the asyncio face, and what only that has.
NATIVE = [
    pytest.param(name, interpreter, "mosquitto", id=f"{name}-{interpreter}-mosquitto")
    for name in ("asyncio_tasks", "asyncio_edges")
    for interpreter in INTERPRETERS
]
# From an interrupt, or another thread, nothing can be awaited.
_NOT_ASYNCIO = ("callers", "threads")
OVER_ASYNCIO = [
    (name, interpreter)
    for name in _NAMES
    if name not in _NOT_ASYNCIO
    for interpreter in _NOT_EVERYWHERE.get(name, INTERPRETERS)
    if interpreter != FORMS[0]
]


@contextlib.contextmanager
def _running(
    directory: Path,
    authority: Authority,
    limits: Limits,
    engine: str = "mosquitto",
    save_each_change: bool = False,
) -> Iterator[Environment]:
    if engine == "mosquitto":
        require_program("mosquitto")
    config = BrokerConfig.create(
        directory / "broker",
        authority,
        names=["localhost", "127.0.0.1"],
        port=0,
        roles={"operator": "operator", "other": "operator"},
        save_each_change=save_each_change,
    )
    dataclasses.replace(config, limits=limits).save()
    with (
        BrokerProcess(directory / "broker", engine=engine) as broker,
        Proxy(broker.port) as proxy,
    ):
        other = write_bundle(directory / "other", authority, "other", port=broker.port, board=False)
        environment = Environment(broker, proxy, other)
        try:
            yield environment
        finally:
            environment.close()


@pytest.fixture(scope="module")
def ours(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Run a Mosquitto of this module's own, since it is restarted, behind a proxy."""
    with _running(tmp_path_factory.mktemp("contract"), authority, Limits()) as environment:
        yield environment


@pytest.fixture(scope="module")
def saving(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Run one that writes each change to the disk, all of what it keeps: slow, if that is much."""
    directory = tmp_path_factory.mktemp("saving")
    with _running(directory, authority, Limits(), save_each_change=True) as environment:
        yield environment


@pytest.fixture(scope="module")
def by_itself(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """Run one with the limits for a client's queue that Mosquitto has by itself."""
    limits = Limits(in_flight=20, queued_messages=1000, queued_bytes=0)
    with _running(tmp_path_factory.mktemp("by-itself"), authority, limits) as environment:
        yield environment


@pytest.fixture(scope="module")
def embedded(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """Run the embedded broker."""
    directory = tmp_path_factory.mktemp("embedded")
    with _running(directory, authority, Limits(), "amqtt") as environment:
        yield environment


@pytest.fixture
def environment(scenario: str, engine: str, request: pytest.FixtureRequest) -> Environment:
    name = "embedded" if engine == "amqtt" else _SPECIAL.get(scenario, "ours")
    environment: Environment = request.getfixturevalue(name)
    return environment


@pytest.fixture
def setting(
    authority: Authority, environment: Environment, tmp_path: Path
) -> Callable[[str], dict[str, object]]:
    """Make what a scenario needs to know, with a device of its own."""

    def make(interpreter: str) -> dict[str, object]:
        board = interpreter in FORMS
        device_id = f"{interpreter}-{next(_numbers)}"
        device = write_bundle(
            tmp_path / "device", authority, device_id, port=environment.proxy.port, board=board
        )
        operator = write_bundle(
            tmp_path / "operator", authority, "operator", port=environment.broker.port, board=board
        )
        return {
            "id": device_id,
            "bundle": str(device),
            "operator": str(operator),
            "closed_port": free_port(),
        }

    return make


def _played(
    scenario: str,
    interpreter: str,
    environment: Environment,
    setting: dict[str, object],
    directory: Path,
) -> None:
    outcome = play(interpreter, scenario, setting, directory, environment.act)
    assert outcome.status == 0, "\n".join([*outcome.lines[-60:], outcome.errors[-3000:]])
    assert len(outcome.checks) >= 4


@pytest.mark.parametrize(("scenario", "interpreter", "engine"), BLOCKING + NATIVE)
def test_contract(
    scenario: str,
    interpreter: str,
    engine: str,
    environment: Environment,
    setting: Callable[[str], dict[str, object]],
    board_directory: Path,
) -> None:
    _played(scenario, interpreter, environment, setting(interpreter), board_directory)


@pytest.mark.parametrize(("scenario", "interpreter"), OVER_ASYNCIO)
@pytest.mark.parametrize("engine", ["mosquitto"])
def test_contract_over_asyncio(
    scenario: str,
    interpreter: str,
    engine: str,
    environment: Environment,
    setting: Callable[[str], dict[str, object]],
    board_directory: Path,
) -> None:
    over_asyncio = {**setting(interpreter), "face": "asyncio"}
    _played(scenario, interpreter, environment, over_asyncio, board_directory)
