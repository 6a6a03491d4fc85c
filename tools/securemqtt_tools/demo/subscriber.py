"""The Pi of the demonstration: firmware/pi_controller.py as a process of its own, and what it has
received.
"""

from __future__ import annotations

import json
from pathlib import Path

from securemqtt_tools.demo.programs import Program
from securemqtt_tools.resources import firmware_directory

SUBSCRIBER_ID = "hub"


class Subscriber(Program):
    """The Pi's program: tells every device to report each `every_s` seconds, and prints what it
    gets.
    """

    def __init__(self, bundle: Path, log: Path, every_s: float) -> None:
        super().__init__(
            "the Pi's program",
            firmware_directory() / "pi_controller.py",
            bundle,
            log,
            "--every",
            str(every_s),
        )

    def payloads(self, topic: str) -> list[str]:
        """Return the payloads that came on a topic, in their order."""
        lines = (
            line.partition(" ")
            for line in self.text().splitlines(keepends=True)
            if line.endswith("\n")
        )
        return [payload.rstrip("\n") for name, _, payload in lines if name == topic]

    def numbers(self, device_id: str) -> list[int]:
        """Return the numbers of a device's readings, in the order in which they came."""
        return [
            int(json.loads(payload)["number"])
            for payload in self.payloads(f"devices/{device_id}/reading")
        ]

    def subscriptions(self) -> int:
        """Return how often it has connected and subscribed: then it hears its own word that it is
        online.
        """
        return self.payloads(f"devices/{SUBSCRIBER_ID}/status").count("online")
