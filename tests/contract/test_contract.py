"""One contract for both backends: the same programs under CPython and under MicroPython, against
the real Mosquitto.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.play import CPYTHON, FORMS, INTERPRETERS, SCENARIOS, Environment, play
from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.network.net import free_port
from support.network.proxy import Proxy
from support.requirements import require_program

_numbers = itertools.count()
_NOT_EVERYWHERE = {"threads": (CPYTHON,), "exhausted": FORMS}
_NAMES = sorted(
    path.stem for path in SCENARIOS.glob("*.py") if path.stem not in ("common", "refusing")
)
CASES = [
    pytest.param(name, interpreter, id=f"{name}-{interpreter}")
    for name in _NAMES
    for interpreter in _NOT_EVERYWHERE.get(name, INTERPRETERS)
]


@pytest.fixture(scope="module")
def environment(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """Run a Mosquitto of this module's own, since it is restarted, behind a proxy."""
    require_program("mosquitto")
    directory = tmp_path_factory.mktemp("contract")
    BrokerConfig.create(
        directory,
        authority,
        names=["localhost", "127.0.0.1"],
        port=0,
        roles={"operator": "operator"},
        save_each_change=True,
    )
    with BrokerProcess(directory, engine="mosquitto") as broker, Proxy(broker.port) as proxy:
        yield Environment(broker, proxy)


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


@pytest.mark.parametrize(("scenario", "interpreter"), CASES)
def test_contract(
    scenario: str,
    interpreter: str,
    environment: Environment,
    setting: Callable[[str], dict[str, object]],
    board_directory: Path,
) -> None:
    outcome = play(interpreter, scenario, setting(interpreter), board_directory, environment.act)
    assert outcome.status == 0, "\n".join([*outcome.lines[-8:], outcome.errors[-3000:]])
    assert len(outcome.checks) >= 4
