"""For tests of programs that use securemqtt: a stand-in for the network, and a throw-away broker.

from securemqtt.testing import FakeClient, broker

docs/testing.md has examples. For CPython, and no part of what is put on a device: no other module
of the library imports it, and no option of `Client` leads here.
"""

from __future__ import annotations

from .client import FakeClient
from .fake import FakeBroker, ProgramEnded
from .throwaway import ThrowawayBroker, broker

__all__ = ["FakeBroker", "FakeClient", "ProgramEnded", "ThrowawayBroker", "broker"]
