"""Device bundles for tests: what provisioning puts on a device, in a directory."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.pki import Authority


def write_bundle(
    directory: Path,
    authority: Authority,
    device_id: str,
    *,
    port: int,
    host: str | list[str] = "localhost",
    board: bool = False,
    **settings: object,
) -> Path:
    """Issue a certificate for `device_id` and write a bundle: DER for a board, PEM for CPython;
    return `directory`.
    """
    issued = authority.issue_device(device_id, renew=True)
    encoding = Encoding.DER if board else Encoding.PEM
    files = {
        f"ca{n}.crt": anchor.public_bytes(encoding)
        for n, anchor in enumerate(authority.trust_anchors())
    }
    anchors = list(files)
    chain = issued.chain_der() if board else [issued.chain_pem()]
    files.update({f"device{n}.crt": certificate for n, certificate in enumerate(chain)})
    config = {
        "format": 1,
        "client_id": device_id,
        "host": host,
        "port": port,
        "ca": anchors,
        "certificate": [name for name in files if name not in anchors],
        "key": "device.key",
        "clock_floor": 0,
        **settings,
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    key = directory / "device.key"
    key.touch(0o600)
    key.write_bytes(issued.key_der() if board else issued.key_pem())
    (directory / "config.json").write_text(json.dumps(config))
    return directory
