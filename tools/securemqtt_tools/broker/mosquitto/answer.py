"""Waiting until a Mosquitto that was told to take up new files answers with them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.trust import undated_context
from securemqtt_tools.cli import FatalError

_POLL_S = 0.05


@contextmanager
def visit(config: BrokerConfig, timeout_s: float) -> Iterator[socket.socket | None]:
    """Hold a connection to what listens on our port by now, if anything does."""
    try:
        held = socket.create_connection((config.local_host, config.port), timeout_s)
    except OSError:
        yield None
        return
    with held:
        yield held


def await_end(config: BrokerConfig, held: socket.socket | None) -> None:
    """Wait until what held our port has gone: else it answers on, knows nothing of the new files,
    and seems to be the new one. Raise FatalError.
    """
    if held is None:
        return
    try:
        held.recv(1)
    except TimeoutError as error:
        raise FatalError(
            f"the restart left port {config.port} to another process: is a second Mosquitto "
            f"running?"
        ) from error
    except OSError:
        return  # a reset is an end, too


def await_answer(config: BrokerConfig, timeout_s: float) -> None:
    """Wait until our own certificate answers on our port. Raise FatalError."""
    context = undated_context(config.server_trust())
    own = config.server_certificate().public_bytes(Encoding.DER)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with (
                socket.create_connection((config.local_host, config.port), timeout_s) as plain,
                context.wrap_socket(plain, server_hostname=config.names[0]) as tls,
            ):
                if tls.getpeercert(binary_form=True) == own:
                    return
            problem = "another certificate answers"
        except OSError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise FatalError(
                f"Mosquitto does not answer on port {config.port} as it should: {problem}"
            )
        time.sleep(_POLL_S)
