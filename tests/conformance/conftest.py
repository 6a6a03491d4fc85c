"""Fixtures of the conformance tests: each case meets each broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.cases import EMBEDDED, MOSQUITTO, Bench, Case, deviation
from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.brokers.mqtt import Refused
from support.requirements import require_program


# One worker runs all cases of a broker, so that each is started once.
@pytest.fixture(
    scope="session",
    params=[
        pytest.param(engine, marks=pytest.mark.xdist_group(f"conformance-{engine}"))
        for engine in (MOSQUITTO, EMBEDDED)
    ],
)
def door(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """Run a broker for all cases."""
    engine = request.param
    if engine == MOSQUITTO:
        require_program("mosquitto")
    with open_door(authority, tmp_path_factory.mktemp("conformance"), engine) as opened:
        yield opened


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """Return the clause that the test is about."""
    return request.param


@pytest.fixture
def bench(request: pytest.FixtureRequest, case: Case, door: Door) -> Iterator[Bench]:
    """Make the place of a case. Where the broker is known to deviate, the case has to fail."""
    known = deviation(request.function.__name__, door.broker.engine)
    if known is not None:
        request.applymarker(
            pytest.mark.xfail(strict=True, raises=(AssertionError, Refused), reason=known.why)
        )
    bench = Bench(door)
    yield bench
    bench.close()
