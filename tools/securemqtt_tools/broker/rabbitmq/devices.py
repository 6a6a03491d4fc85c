"""Who RabbitMQ is to know: it lets in nobody whom it has no user for."""

from __future__ import annotations

import json
from pathlib import Path

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.files import explained, write_file
from securemqtt_tools.pki.names import check_device_id
from securemqtt_tools.pki.profiles import DEVICE

NAME = "devices.json"


def hand_over(authority: Authority, directory: Path) -> None:
    """Write into a broker's directory which devices have a certificate that is not revoked. Raise
    FatalError.
    """
    inventory = authority.inventory
    with inventory.transaction():  # of two that do so at once, none puts older over newer
        entries = inventory.entries()
        ids = sorted({e.subject for e in entries if e.role == DEVICE and e.state != REVOKED})
        write_file(directory / NAME, (json.dumps(ids, indent=1) + "\n").encode())


def read_devices(directory: Path) -> frozenset[str]:
    """Return those devices; none where there is no file. Raise FatalError."""
    path = directory / NAME
    with explained(f"read {path}"):
        content = path.read_bytes() if path.exists() else b"[]"
    try:
        ids = json.loads(content)
    except ValueError as error:
        raise FatalError(f"{path} is damaged: run securemqtt broker reload") from error
    if not isinstance(ids, list):
        raise FatalError(f"{path} is damaged: run securemqtt broker reload")
    return frozenset(check_device_id(str(one)) for one in ids)
