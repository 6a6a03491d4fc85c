"""Fixtures for pytest. In the conftest.py at the top of a project's tests:

pytest_plugins = ["securemqtt.testing.pytest_plugin"]

It is not registered by an entry point: then every run of pytest beside an installed securemqtt
would import it, and every project with it that does not test with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .client import FakeClient
from .throwaway import ThrowawayBroker, broker


@pytest.fixture
def securemqtt_client() -> Iterator[FakeClient]:
    """A stand-in for `Client`, not started; `client.fake` is its broker. One per test."""
    client = FakeClient()
    yield client
    # Else leaving would wait for acknowledgements that a test has withheld.
    client.fake.release_acknowledgements()
    client.disconnect(1)


@pytest.fixture(scope="session")
def securemqtt_broker() -> Iterator[ThrowawayBroker]:
    """A real broker with certificates, for the whole session: tests use ids of their own."""
    with broker() as running:
        yield running
