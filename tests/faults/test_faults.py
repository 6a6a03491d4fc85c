"""Nothing is lost, and the device is back in time, whatever happens to broker, network, names and
clock: on both interpreters.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.repertoire import FAULTS, find_nss_wrapper, suffered_by
from faults.rig import ASYNCIO, INTERPRETERS
from faults.trial import Result, row, run_all
from faults.wifi import lose_wifi
from securemqtt_tools.pki import Authority
from support.boards.simboard import require_libfaketime, require_micropython
from support.network.name_server import why_not
from support.requirements import missing, require_program
from support.speed import seconds


def undergo_all(authority: Authority, directory: Path, interpreter: str, names: list[str]) -> None:
    """Fail with all that is not as it must be."""
    found = []
    for name, result in run_all(authority, directory, interpreter, names).items():
        if isinstance(result, Result):
            print(row(name, interpreter, result), end="")
            found += [
                f"{name}: {complaint}" for complaint in result.complaints(FAULTS[name].noticed)
            ]
        else:
            found.append(f"{name}: {result!r}")
    assert not found, "\n".join(found)


@pytest.mark.timeout(seconds(300))
@pytest.mark.parametrize("interpreter", INTERPRETERS + ASYNCIO)
def test_nothing_is_lost_and_recovery_is_in_time(
    authority: Authority, tmp_path: Path, interpreter: str
) -> None:
    require_program("mosquitto")
    require_libfaketime()
    if find_nss_wrapper() is None:
        missing("nss_wrapper", "libnss-wrapper")
    undergo_all(authority, tmp_path, interpreter, suffered_by(interpreter, names=False))


@pytest.mark.timeout(seconds(200))
@pytest.mark.parametrize("interpreter", INTERPRETERS + ASYNCIO)
def test_nothing_is_lost_to_a_name_server(
    authority: Authority, tmp_path: Path, interpreter: str
) -> None:
    require_program("mosquitto")
    if reason := why_not():
        pytest.skip(reason)
    undergo_all(authority, tmp_path, interpreter, suffered_by(interpreter, names=True))


def test_wifi_lost_and_back(authority: Authority, tmp_path: Path) -> None:
    require_program("mosquitto")
    require_micropython()
    require_libfaketime()
    result = lose_wifi(authority, tmp_path)
    print(row("Wi-Fi lost and back", "simulated board", result), end="")
    assert result.complaints(noticed=True) == []
