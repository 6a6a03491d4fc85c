"""Seconds that a connection and a TLS handshake take: `python handshake_pi.py BUNDLE`."""

import json
import socket
import ssl
import sys
import time
from pathlib import Path

bundle = Path(sys.argv[1])
config = json.loads((bundle / "config.json").read_text())
context = ssl.create_default_context(cafile=bundle / config["ca"][0])
context.load_cert_chain(bundle / config["certificate"][0], bundle / config["key"])
start = time.time_ns()
raw = socket.create_connection((config["host"], config["port"]))
context.wrap_socket(raw, server_hostname=config["host"])
print("figure", (time.time_ns() - start) / 1e9)
