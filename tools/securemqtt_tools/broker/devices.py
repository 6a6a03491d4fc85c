"""Which devices there are, for a broker that has to be told: RabbitMQ lets in nobody whom it has no
user for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from securemqtt_tools.broker.rules_file import newest_rules
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.files import explained, read_json, write_file
from securemqtt_tools.pki.layout import INVENTORY
from securemqtt_tools.pki.names import check_device_id
from securemqtt_tools.pki.profiles import DEVICE

NAME = "devices.json"


def hand_over(authority: Authority, directory: Path) -> None:
    """Write into a broker's directory which devices have a certificate that is not revoked, where
    that has changed. Of those that share another one, their own counts only until it has run out.
    Raise FatalError.
    """
    inventory = authority.inventory
    with inventory.transaction():  # of two that do so at once, none puts older over newer
        rules = newest_rules(authority.directory, directory)
        found = [e for e in inventory.entries() if e.role == DEVICE and e.state != REVOKED]
        ids = sorted(
            {
                e.subject
                for e in found
                if e.not_after > authority.now or not rules.sharing(e.subject)
            }
        )
        content = (json.dumps(ids, indent=1) + "\n").encode()
        path = directory / NAME
        with explained(f"read {path}"):
            is_there = path.exists() and path.read_bytes() == content
        if not is_there:
            write_file(path, content)


def expect(directory: Path, ids: Iterable[str]) -> None:
    """Have a broker that is started next know devices that get their certificates only then. Raise
    FatalError.
    """
    known = sorted(read_devices(directory) | set(ids))
    write_file(directory / NAME, (json.dumps(known, indent=1) + "\n").encode())


def read_devices(directory: Path) -> frozenset[str]:
    """Return those devices; none where there is no file. Raise FatalError."""
    ids = read_json(directory / NAME, list, "run securemqtt broker reload")
    return frozenset(check_device_id(str(one)) for one in ids)


class NewDevices:
    """Notices that the devices of a broker have changed, and hands them over from the authority, if
    that is here.
    """

    def __init__(self, directory: Path, authority: Authority | None) -> None:
        self._directory = directory
        self._authority = authority
        self._inventory = 0  # so what changes before the first look is seen
        self._devices = read_devices(directory)

    def __call__(self) -> bool:
        """Return True if there are others since the last time. Looks at the time of the inventory
        first. Raise FatalError.
        """
        at = self._changed_at()
        if at == self._inventory:
            return False
        if self._authority is not None:
            hand_over(self._authority, self._directory)
        self._inventory = at
        before, self._devices = self._devices, read_devices(self._directory)
        return before != self._devices

    def _changed_at(self) -> int:
        if self._authority is None:
            files = self._directory.glob(NAME)
        else:
            files = self._authority.directory.glob(f"{INVENTORY}*")
        with explained(f"look at {self._directory}"):
            return max((one.stat().st_mtime_ns for one in files), default=0)
