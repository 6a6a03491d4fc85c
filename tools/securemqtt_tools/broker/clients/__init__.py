"""Other people's clients with our broker: ready lines for each, with the files of an id that has a
certificate already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from securemqtt_tools.broker.clients import applications, headers, programs, terminal
from securemqtt_tools.broker.clients.identity import Identity


class Kind(NamedTuple):
    """A client that lines can be written for."""

    write: Callable[[Identity], str]
    websockets: bool = True
    holds_key: bool = False  # the private key is in the text itself, not beside it


KINDS: Mapping[str, Kind] = {
    "mosquitto": Kind(terminal.mosquitto, websockets=False),
    "mqttx": Kind(terminal.mqttx),
    "paho": Kind(programs.paho),
    "aiomqtt": Kind(programs.aiomqtt),
    "mqttjs": Kind(programs.mqttjs),
    "node-red": Kind(applications.node_red),
    "home-assistant": Kind(applications.home_assistant),
    "esp-idf": Kind(headers.esp_idf, holds_key=True),
    "arduino": Kind(headers.arduino, websockets=False, holds_key=True),
    "openssl": Kind(terminal.openssl, websockets=False),
}
