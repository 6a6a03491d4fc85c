"""What is imported into Node-RED, and entered in Home Assistant."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from securemqtt_tools.broker.clients.identity import WEBSOCKETS_PATH, Identity


def node_red(identity: Identity) -> str:
    """Return a flow, as Node-RED's menu imports it: files, broker, and a message out and in."""
    tab, tls, broker, debug, out = (
        _node_id(identity, name) for name in ("tab", "tls", "broker", "debug", "out")
    )
    host = f"[{identity.host}]" if ":" in identity.host else identity.host
    address = (
        f"wss://{host}:{identity.port}{WEBSOCKETS_PATH}" if identity.websockets else identity.host
    )

    def on_tab(node: str, kind: str, x: int, y: int, **more: Any) -> dict[str, Any]:
        place = {"id": _node_id(identity, node), "type": kind, "z": tab, "x": x, "y": y}
        return {**place, "wires": [], **more}

    notes = identity.notes()
    if identity.password_path is not None:
        notes.append(f"User name {identity.id} and the password of {identity.password_path} have")
        notes.append("to be entered in the broker's node: a flow does not hold them.")
    flow = [
        {"id": tab, "type": "tab", "label": identity.id, "disabled": False, "info": ""},
        on_tab("about", "comment", 240, 40, name=f"About {identity.id}", info="\n".join(notes)),
        on_tab(
            "inject",
            "inject",
            140,
            100,
            name="hello",
            props=[{"p": "payload"}],
            payload="hello",
            payloadType="str",
            wires=[[out]],
        ),
        on_tab(
            "out",
            "mqtt out",
            380,
            100,
            name="",
            topic=f"{identity.prefix}/note",
            qos="1",
            retain="false",
            broker=broker,
        ),
        on_tab(
            "in",
            "mqtt in",
            140,
            160,
            name="",
            topic=identity.own,
            qos="1",
            datatype="auto-detect",
            broker=broker,
            wires=[[debug]],
        ),
        on_tab(
            "debug",
            "debug",
            380,
            160,
            name="",
            active=True,
            tosidebar=True,
            complete="payload",
            targetType="msg",
        ),
        {
            "id": broker,
            "type": "mqtt-broker",
            "name": f"{identity.id} at {identity.host}",
            "broker": address,
            "port": str(identity.port),
            "tls": tls,
            "clientid": identity.id,
            "autoConnect": True,
            "usetls": True,
            "protocolVersion": "4",
            "keepalive": "60",
            "cleansession": True,
        },
        {
            "id": tls,
            "type": "tls-config",
            "name": identity.id,
            "certType": "files",
            "cert": identity.certificate_path,
            "key": identity.key_path,
            "ca": identity.ca_path,
            "verifyservercert": True,
            "servername": "",
        },
    ]
    return json.dumps(flow, indent=1) + "\n"


def home_assistant(identity: Identity) -> str:
    """Return what is entered in Home Assistant, whose connection is not set up in YAML, and an
    entity, which may be.
    """
    login = f"Username: {identity.id}, Password: in {identity.password_path}"
    transport = f"WebSocket, WebSocket path: {WEBSOCKETS_PATH}" if identity.websockets else "TCP"
    return f"""{identity.comment("#")}\
# In Home Assistant: Settings, Devices & services, Add integration, MQTT; then enter by hand:
#   Broker: {identity.host}
#   Port: {identity.port}
#   {login if identity.password_path else "Username, Password: leave them empty"}
#   Advanced options: on, then Submit (first turn on Advanced mode in your user profile)
#   Client ID: {identity.id}
#   Use a client certificate: on
#   Broker certificate validation: Custom, then Next
#   Upload custom CA certificate file: {identity.ca_path}
#   Upload client certificate file: {identity.certificate_path}
#   Upload private key file: {identity.key_path}
#   Ignore broker certificate validation: off
#   MQTT protocol: 3.1.1
#   MQTT transport: {transport}
# After that, in the integration's options:
#   Enable discovery: off (each id of this broker can write below devices/ID/ only, so nobody can
#   announce itself below homeassistant/)
#   Birth message topic, Will message topic: {identity.prefix}/status
# To have it read every device and send commands: securemqtt broker grant {identity.id} operator
# In configuration.yaml, for each value of each device (here greenhouse-1 says {{"celsius": 21.5}}):
mqtt:
  - sensor:
      name: Greenhouse temperature
      unique_id: greenhouse-1-temperature
      state_topic: devices/greenhouse-1/reading
      value_template: "{{{{ value_json.celsius }}}}"
      unit_of_measurement: "°C"
      device_class: temperature
      availability_topic: devices/greenhouse-1/status
"""


def _node_id(identity: Identity, name: str) -> str:
    """Return the id of a node: 16 hexadecimal digits, the same each time."""
    return hashlib.sha256(f"{identity.id}/{name}".encode()).hexdigest()[:16]
