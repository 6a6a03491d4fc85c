"""A message that the broker answers by hanging up, with the limits that our own brokers have."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from contract.play import CPYTHON, INTERPRETERS, play
from securemqtt_tools.broker import BrokerConfig, BrokerProcess, Limits
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.requirements import require_program

_numbers = itertools.count()
# What a board's heap holds, with all that a scenario keeps.
_BOARD_LIMIT = 32_768


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_message_at_which_the_broker_hangs_up(
    engine: str, interpreter: str, authority: Authority, tmp_path: Path, board_directory: Path
) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    board = interpreter != CPYTHON
    config = BrokerConfig.create(
        tmp_path / "broker",
        authority,
        names=["localhost", "127.0.0.1"],
        port=0,
        roles={"operator": "operator"},
    )
    if board:
        dataclasses.replace(config, limits=Limits(packet_bytes=_BOARD_LIMIT)).save()
    limit = _BOARD_LIMIT if board else config.limits.packet_bytes
    device_id = f"refused-{next(_numbers)}"
    with BrokerProcess(tmp_path / "broker", engine=engine) as broker:
        setting: dict[str, object] = {
            "id": device_id,
            "bundle": str(
                write_bundle(
                    tmp_path / "device", authority, device_id, port=broker.port, board=board
                )
            ),
            "operator": str(
                write_bundle(
                    tmp_path / "operator", authority, "operator", port=broker.port, board=board
                )
            ),
            "limit": limit,
            "large": limit + limit // 10,
            "qos": 2 if engine == "amqtt" else 1,
        }
        outcome = play(interpreter, "refusing", setting, board_directory)
    assert outcome.status == 0, "\n".join([*outcome.lines[-8:], outcome.errors[-3000:]])
    assert len(outcome.checks) >= 16
