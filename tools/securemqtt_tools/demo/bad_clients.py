"""Clients that try to get in: bundles with what they have to show for themselves, and what becomes
of the attempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from securemqtt import Client
from securemqtt.errors import SecureMQTTError
from securemqtt_tools.demo.environment import NEIGHBOUR_ID, Environment
from securemqtt_tools.demo.failure import Failed
from securemqtt_tools.pki import Authority, Issued
from securemqtt_tools.pki.files import write_files
from securemqtt_tools.provision.bundle import (
    CONFIG,
    Settings,
    anchor_files,
    config_text,
    identity_files,
)

_ATTEMPT_S = 20.0


def write_bundle(
    directory: Path, trusted: Authority, device_id: str, port: int, issued: Issued | None
) -> Path:
    """Write a bundle that trusts the right CA and shows what was `issued`, or has only a password
    to show, and that a guess; return its directory.
    """
    anchors = anchor_files(trusted.trust_anchors(), {}, der=False)
    names = {**anchors.names}
    if issued is None:
        names.update(imported=True, username=device_id, password=token_hex())
    content = {**anchors.content}
    if issued is not None:
        private = identity_files(issued, {}, der=False)
        names.update(private.names)
        content.update(private.content)
    config = config_text(Settings(device_id, "localhost", port), names, {}, clock_floor=0)
    write_files(directory, {**content, **({CONFIG: config} if config else {})})
    return directory


def bundle_for(environment: Environment, device_id: str, issued: Issued | None, name: str) -> Path:
    """Write such a bundle for the demonstration's broker."""
    return write_bundle(
        environment.directory / "bad-clients" / name,
        environment.authority,
        device_id,
        environment.broker.port,
        issued,
    )


@contextmanager
def neighbour(environment: Environment, client_id: str = NEIGHBOUR_ID) -> Iterator[Client]:
    """Connect as a device in its own right, under this client id."""
    directory = environment.directory / "bad-clients" / NEIGHBOUR_ID
    if not directory.exists():
        issued = environment.authority.issue_device(NEIGHBOUR_ID)
        bundle_for(environment, NEIGHBOUR_ID, issued, NEIGHBOUR_ID)
    with Client(str(directory), status=False, client_id=client_id) as client:
        yield client


def refusal(bundle: Path, expected: type[SecureMQTTError]) -> SecureMQTTError:
    """Try to connect with a bundle, and return the error that this ends in.

    Failed when it gets in, or fails for another reason.
    """
    client = Client(str(bundle), status=False)
    try:
        client.connect(_ATTEMPT_S)
    except expected as error:
        return error
    except SecureMQTTError as error:
        raise Failed(
            f"it did not get in, but for another reason: {type(error).__name__}: {error.what}"
        ) from error
    client.disconnect()
    raise Failed("it got in")


def words(error: SecureMQTTError) -> str:
    """Return an error's class and what happened."""
    return f"{type(error).__name__}: {error.what}"
