"""Write docs/errors.md from the library's own source: what each error says, its causes and
remedies. A test sees to it that the page is true.

python tests/support/errors_page.py
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from securemqtt import diagnose, errors, kinds

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "lib" / "securemqtt"
PAGE = ROOT / "docs" / "errors.md"
_UNKNOWN = "…"
_HEAD = """# Errors

Every error of securemqtt is a `SecureMQTTError` and says what happened (`what`), the likely cause (`cause`), what to do (`remedy`), whether it
can pass by itself (`transient`), and the raw number or text underneath (`code`). `str(error)` is all of it in a few sentences. `connect` raises
it; a client that was given `start` goes on trying, and shows it in `last_error` and in the log.

```python
from securemqtt import Client
from securemqtt.errors import NetworkError, SecureMQTTError

try:
    client.connect()
except NetworkError as error:        # worth another attempt
    print(error)
except SecureMQTTError as error:     # needs a person
    print(error.what, error.remedy)
```

`tests/support/errors_page.py` writes this page from the source, and a test keeps it true. HOST is the broker, FILE the file that is named.
"""
_TAIL = """
## Asking the broker twice

mbedTLS does not tell which alert ended a handshake, and a broker that refuses a certificate often just closes the connection. So after a
handshake that failed without a reason, securemqtt connects once more, verifies the broker as always, sends no MQTT, reads the alert off the
wire, and closes. That takes 5 seconds at most, beside resolving the name. A port that closes the connection before anything was said is a
broker at its limit; one that closes it after our first TLS record has no TLS.

## Raw codes

| code | meaning | error |
|---|---|---|
| 32, 104, -29312, -30848 | the connection was closed; the reason is asked for once more | any of those under security |
| 110 | no answer in time | TimedOut |
| 111 | refused | ConnectionRefused |
| 12, -10368, -17168, -32512 | out of memory | OutOfMemory |
| -9984 | the broker's certificate was not verified | HandshakeFailed |
| -28160, -30592 | the broker broke off the handshake; its alert is asked for once more | any of those under security |
| -28288 | no common TLS version | TLSVersionTooOld |
| -29184 | what came is not TLS | NotTLS |
| TLS alert 40 | no certificate shown (TLS 1.2), or no common cipher suite | ClientCertificateMissing, HandshakeFailed |
| TLS alert 42 | certificate not yet valid, or unreadable | ClientCertificateRefused |
| TLS alert 43 | certificate of another use | ClientCertificateRefused |
| TLS alert 44 | certificate revoked | ClientCertificateRevoked |
| TLS alert 45 | certificate expired, or the broker's revocation list has | ClientCertificateExpired, ClientCertificateRefused |
| TLS alert 46, 48, 49 | certificate unknown, of another CA, not allowed | ClientCertificateRefused |
| TLS alert 51 | signature wrong | KeyMismatch |
| TLS alert 70 | no common TLS version | TLSVersionTooOld |
| TLS alert 112 | the broker does not know the name it was called by | HostNameMismatch |
| TLS alert 116 | no certificate shown (TLS 1.3) | ClientCertificateMissing |
| 1 to 5 in CONNACK | MQTT 3.1.1, table 3.1 | ProtocolRefused, ClientIdRefused, BrokerFull, NotAuthorised |
"""


def page() -> str:
    """Return the whole page."""
    seen = _seen()
    sections = []
    for branch, names in diagnose._BRANCHES:
        words = importlib.import_module(f"securemqtt.words_{branch.lower()}").WORDS
        listed = [
            f"{branch}Error",
            *(name.rstrip("!") for name in names.split() if name != f"{branch}Error!"),
        ]
        sections.append(f"\n## {branch}\n")
        for name in listed:
            passes = " (can pass by itself)" if getattr(errors, name).transient else ""
            sections.append(f"### {name}{passes}\n")
            sections += [
                f"> {what}" + ("  " if what != seen[name][-1] else "\n")
                for what in seen.get(name, [])
            ]
            sections.append("| likely cause | what to do |\n|---|---|")
            subject = "FILE" if branch == "Bundle" else "HOST"
            rows = (pair for key, pair in words.items() if key.partition(".")[0] == name)
            sections += [f"| {cause} | {remedy} |".replace("{}", subject) for cause, remedy in rows]
            sections.append("")
    return _HEAD + "\n".join(sections) + _TAIL


def _seen() -> dict[str, list[str]]:
    """Return what each class says of what happened, as the source has it: literal texts, with … for
    what is filled in.
    """
    seen: dict[str, list[str]] = {}
    for name, what in kinds._KINDS.values():
        seen.setdefault(name, []).append(what.replace("{}", "HOST:PORT"))
    seen["ClockWrong"] = seen["CertificateNotYetValid"][:]
    for name in dict.fromkeys(diagnose._REFUSALS[1:]):
        seen.setdefault(name, []).append("HOST:PORT refused the session of ID")
    for path in sorted(LIBRARY.rglob("*.py")):
        for name, what in _texts(ast.parse(path.read_text())):
            if what.strip(_UNKNOWN + " :") and what not in seen.setdefault(name, []):
                seen[name].append(what)
    return seen


def _texts(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        known = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and getattr(
                node.func, "id", getattr(node.func, "attr", "")
            ) in ("failure", "explain"):
                pair = node.args[:2]
            elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                pair = node.value.elts[:2]
            else:
                continue
            name = pair[0].value if pair and isinstance(pair[0], ast.Constant) else None
            if isinstance(name, str) and name[:1].isupper() and len(pair) == 2:
                yield name, re.sub(f"[{_UNKNOWN}]+", _UNKNOWN, _text(pair[1], known))


def _text(node: ast.expr, known: dict[str, ast.expr]) -> str:
    """Return the text that an expression makes, as far as the source says it."""
    if isinstance(node, ast.Constant):
        return (
            str(node.value)
            .replace("{!r}", _UNKNOWN)
            .replace("{:02d}", _UNKNOWN)
            .replace("{}:{}", "HOST:PORT")
            .replace("{}", _UNKNOWN)
        )
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, known) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, known) + _text(node.right, known)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "format"
    ):
        return _text(node.func.value, known)
    if isinstance(node, ast.Name) and node.id in known:
        return _text(
            known[node.id], {name: value for name, value in known.items() if name != node.id}
        )
    return "FILE" if isinstance(node, ast.Name) and node.id in ("path", "key_path") else _UNKNOWN


if __name__ == "__main__":
    PAGE.write_text(page())
