"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.brokers.servers import mosquitto
from support.identities.laboratory import BOTH, Device, Laboratory


@pytest.fixture(params=BOTH)
def device(request: pytest.FixtureRequest) -> Device:
    """Run the test once per interpreter."""
    return Device(request.param)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """Make the authorities and what they issued."""
    return Laboratory(tmp_path_factory.mktemp("diagnose"))


@pytest.fixture(scope="session")
def mosquitto_port(lab: Laboratory) -> Iterator[int]:
    """Run Mosquitto with mutual TLS and a revocation list."""
    with mosquitto(lab.directory / "mosquitto", *lab.mosquitto_lines(lab.crl)) as port:
        yield port
