"""The release's bill of materials: CycloneDX, JSON, of what is installed in an environment."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

_REQUIRED = {"paho-mqtt"}


def write_bill(python: Path, environment: Path, wheel: Path, path: Path) -> int:
    """Write the bill of what `environment` has to `path`; return the number of components.

    The wheel is the subject, paho-mqtt is required, what the extras bring is optional. `python` is
    of the environment that has cyclonedx-bom. Raise ValueError if the schema finds fault with it.
    """
    command = [str(python), "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    done = subprocess.run(
        [*command, str(environment)], check=True, stdout=subprocess.PIPE, timeout=120
    )
    bill: dict[str, Any] = json.loads(done.stdout)
    (subject,) = (one for one in bill["components"] if one["name"] == "securemqtt")
    bill["components"].remove(subject)
    bill["metadata"]["component"] = _subject(subject, wheel)
    for component in bill["components"]:
        component["scope"] = "required" if component["name"] in _REQUIRED else "optional"
    text = json.dumps(bill, indent=1, sort_keys=True) + "\n"
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        raise ValueError(f"the bill of materials is not valid: {fault}")
    path.write_text(text)
    return len(bill["components"])


def _subject(component: dict[str, Any], wheel: Path) -> dict[str, Any]:
    # Where the wheel lay when it was installed is nobody's business.
    component.pop("externalReferences", None)
    component["hashes"] = [
        {"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    ]
    return component
