"""Headers for C and C++ that hold certificates and private key: for ESP-IDF and Arduino."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from securemqtt_tools.broker.clients.identity import WEBSOCKETS_PATH, Identity
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import read_private


def esp_idf(identity: Identity) -> str:
    """Return a header for ESP-IDF 5 and later (esp-mqtt)."""
    host = f"[{identity.host}]" if ":" in identity.host else identity.host
    scheme, path = ("wss", WEBSOCKETS_PATH) if identity.websockets else ("mqtts", "")
    password = (
        "    config->credentials.username = SECUREMQTT_ID;\n"
        "    config->credentials.authentication.password = SECUREMQTT_PASSWORD;\n"
        if identity.password_file
        else ""
    )
    return f"""{_top(identity)}#include "mqtt_client.h"

#define SECUREMQTT_URI {json.dumps(f"{scheme}://{host}:{identity.port}{path}")}
{_credentials(identity)}
// esp_mqtt_client_config_t config = {{}}; (in C: {{0}}) securemqtt_configure(&config);
// esp_mqtt_client_handle_t client = esp_mqtt_client_init(&config);
// Dates of certificates are looked at if menuconfig's MBEDTLS_HAVE_TIME_DATE is on: set the clock
// (SNTP) before you connect.
static inline void securemqtt_configure(esp_mqtt_client_config_t *config)
{{
    config->broker.address.uri = SECUREMQTT_URI;
    config->broker.verification.certificate = SECUREMQTT_CA;
    config->credentials.client_id = SECUREMQTT_ID;
{password}    config->credentials.authentication.certificate = SECUREMQTT_CERTIFICATE;
    config->credentials.authentication.key = SECUREMQTT_KEY;
}}
"""


def arduino(identity: Identity) -> str:
    """Return a header for an ESP32 under Arduino, for PubSubClient or any other client that takes a
    Client.
    """
    login = "SECUREMQTT_ID, SECUREMQTT_PASSWORD" if identity.password_file else ""
    return f"""{_top(identity)}#include <WiFiClientSecure.h>

#define SECUREMQTT_HOST {json.dumps(identity.host)}
#define SECUREMQTT_PORT {identity.port}
{_credentials(identity)}
// WiFiClientSecure net; PubSubClient mqtt(net);
// securemqtt_configure(net);
// mqtt.setServer(SECUREMQTT_HOST, SECUREMQTT_PORT);
// mqtt.connect(SECUREMQTT_ID{", " + login if login else ""});
static inline void securemqtt_configure(WiFiClientSecure &net)
{{
    net.setCACert(SECUREMQTT_CA);
    net.setCertificate(SECUREMQTT_CERTIFICATE);
    net.setPrivateKey(SECUREMQTT_KEY);
}}
"""


def _top(identity: Identity) -> str:
    return (
        identity.comment("//")
        + "// THIS FILE HOLDS THE PRIVATE KEY: keep it out of version control, and from others.\n"
        + "#pragma once\n"
    )


def _credentials(identity: Identity) -> str:
    if identity.key_is_encrypted:
        raise FatalError(
            f"{identity.key} is encrypted, and a board could not decrypt it: provision a bundle "
            "without --key-passphrase-file"
        )
    texts = {
        "CA": _read(identity.ca),
        "CERTIFICATE": _read(identity.certificate),
        "KEY": read_private(identity.key).decode("ascii"),
    }
    if identity.password_file is not None:
        texts["PASSWORD"] = read_private(identity.password_file).decode().strip()
    lines = [f"#define SECUREMQTT_ID {json.dumps(identity.id)}"]
    for name, text in texts.items():
        quoted = "\n".join(f"    {json.dumps(line)}" for line in text.splitlines(keepends=True))
        lines += [f"static const char SECUREMQTT_{name}[] =", f"{quoted};"]
    return "\n".join(lines) + "\n"


def _read(paths: Iterable[Path]) -> str:
    return "".join(path.read_text("ascii") for path in paths)
