"""Programs that connect, say hello and show what comes: for paho-mqtt, aiomqtt and MQTT.js."""

from __future__ import annotations

import json

from securemqtt_tools.broker.clients.identity import WEBSOCKETS_PATH, Identity

# JSON's strings are strings of Python's and of JavaScript's, too.
_text = json.dumps


def paho(identity: Identity) -> str:
    """Return a program for paho-mqtt 2."""
    transport = ', transport="websockets"' if identity.websockets else ""
    password = (
        f"client.username_pw_set({_text(identity.id)}, {_read_password(identity)})\n"
        if identity.password_path
        else ""
    )
    path = f'client.ws_set_options(path="{WEBSOCKETS_PATH}")\n' if identity.websockets else ""
    return f"""{identity.comment("#")}# pip install 'paho-mqtt>=2'
{_import_path(identity)}
import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, reason, properties):
    print("connected:", reason)
    client.subscribe({_text(identity.own)}, qos=1)
    client.publish({_text(f"{identity.prefix}/note")}, "hello", qos=1)


def on_message(client, userdata, message):
    print(message.topic, message.payload)


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id={_text(identity.id)}{transport}
)
client.tls_set(
    ca_certs={_text(identity.ca_path)},
    certfile={_text(identity.certificate_path)},
    keyfile={_text(identity.key_path)},
)
{password}{path}client.on_connect = on_connect
client.on_message = on_message
client.connect({_text(identity.host)}, {identity.port})
client.loop_forever()
"""


def aiomqtt(identity: Identity) -> str:
    """Return a program for aiomqtt 2."""
    more = ""
    if identity.websockets:
        more += f'        transport="websockets",\n        websocket_path="{WEBSOCKETS_PATH}",\n'
    if identity.password_path:
        more += f"        username={_text(identity.id)},\n"
        more += f"        password={_read_password(identity)},\n"
    return f"""{identity.comment("#")}# pip install 'aiomqtt>=2'
import asyncio
{_import_path(identity)}
import aiomqtt

TLS = aiomqtt.TLSParameters(
    ca_certs={_text(identity.ca_path)},
    certfile={_text(identity.certificate_path)},
    keyfile={_text(identity.key_path)},
)


async def main():
    async with aiomqtt.Client(
        {_text(identity.host)},
        {identity.port},
        identifier={_text(identity.id)},
        tls_params=TLS,
{more}    ) as client:
        await client.subscribe({_text(identity.own)}, qos=1)
        await client.publish({_text(f"{identity.prefix}/note")}, "hello", qos=1)
        async for message in client.messages:
            print(message.topic, message.payload)


asyncio.run(main())
"""


def mqttjs(identity: Identity) -> str:
    """Return a program for MQTT.js 5 on Node.js."""
    host = f"[{identity.host}]" if ":" in identity.host else identity.host
    url = (
        f"wss://{host}:{identity.port}{WEBSOCKETS_PATH}"
        if identity.websockets
        else f"mqtts://{host}:{identity.port}"
    )
    password = ""
    if identity.password_path:
        password = f"""  username: {_text(identity.id)},
  password: fs.readFileSync({_text(identity.password_path)}, "utf8").trim(),
"""
    return f"""{identity.comment("//")}// npm install mqtt
const fs = require("fs");
const mqtt = require("mqtt");

const client = mqtt.connect({_text(url)}, {{
  clientId: {_text(identity.id)},
  ca: fs.readFileSync({_text(identity.ca_path)}),
  cert: fs.readFileSync({_text(identity.certificate_path)}),
  key: fs.readFileSync({_text(identity.key_path)}),
{password}}});
client.on("connect", () => {{
  console.log("connected");
  client.subscribe({_text(identity.own)}, {{ qos: 1 }});
  client.publish({_text(f"{identity.prefix}/note")}, "hello", {{ qos: 1 }});
}});
client.on("message", (topic, payload) => console.log(topic, JSON.stringify(payload.toString())));
client.on("error", (error) => console.error(error.message));
"""


def _import_path(identity: Identity) -> str:
    return "from pathlib import Path\n" if identity.password_path else ""


def _read_password(identity: Identity) -> str:
    return f"Path({_text(identity.password_path)}).read_text().strip()"
