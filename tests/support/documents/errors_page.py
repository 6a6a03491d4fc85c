"""Write docs/errors.md from the library's own source: each error, its causes and remedies.

A test sees to it that the page is true. By hand: python tests/support/documents/errors_page.py
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from securemqtt import errors

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "lib" / "securemqtt"
# What a test is told is no error of a device's, and has its remedy with it.
_TESTING = LIBRARY / "testing"
PAGE = ROOT / "docs" / "errors.md"
WORDS = {name: (cause, remedy) for name, cause, remedy in errors._catalogue()}
_UNKNOWN = "…"
_NAMES = {name for name in dir(errors) if not name.startswith("_")}
# What stands in the place of these expressions in a text.
_SPOKEN_OF = {"path": "FILE", "key_path": "FILE", "peer": "HOST:PORT"}
_HEAD = """# Errors

Every error of securemqtt is a `SecureMQTTError` and says what happened (`what`), the likely cause
(`cause`), what to do (`remedy`), whether it can pass by itself (`transient`), and the raw number or
text underneath (`code`). `str(error)` is all of it in a few sentences, and so is the last line of
an uncaught traceback. `connect` raises it; `with client:` and `start` go on trying, and
show it in `last_error`, to `on_error` and in the log.

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

`tests/support/documents/errors_page.py` writes this page from the source, and a test keeps it true. HOST is
the broker, FILE the file that is named; … stands for what is filled in.
"""
_TAIL = """
## Asking the broker twice

mbedTLS does not tell which alert ended a handshake, and a broker that refuses a certificate often
just closes the connection. So after a handshake that failed without a reason, securemqtt connects
once more, verifies the broker as always, sends no MQTT, reads the alert off the wire, and closes.
That takes 5 seconds at most, beside resolving the name. A port that closes the connection before
anything was said is a broker at its limit; one that closes it after our first TLS record has no
TLS.

## Raw codes

"""
# What is underneath, what it means, and which error it becomes.
_CODES = (
    ("code", "meaning", "error"),
    ("---", "---", "---"),
    (
        "32, 104, -29312, -30848",
        "the connection was closed; the reason is asked for once more",
        "any of those under security",
    ),
    ("110", "no answer in time", "TimedOut"),
    ("111", "refused", "ConnectionRefused"),
    ("12, -10368, -17168, -32512", "out of memory", "OutOfMemory"),
    ("-9984", "the broker's certificate was not verified", "HandshakeFailed"),
    (
        "-28160, -30592",
        "the broker broke off the handshake; its alert is asked for once more",
        "any of those under security",
    ),
    ("-28288", "no common TLS version", "TLSVersionTooOld"),
    ("-29184", "what came is not TLS", "NotTLS"),
    (
        "TLS alert 40",
        "no certificate shown (TLS 1.2), or no common cipher suite",
        "ClientCertificateMissing, HandshakeFailed",
    ),
    ("TLS alert 42", "certificate not yet valid, or unreadable", "ClientCertificateRefused"),
    ("TLS alert 43", "certificate of another use", "ClientCertificateRefused"),
    ("TLS alert 44", "certificate revoked", "ClientCertificateRevoked"),
    (
        "TLS alert 45",
        "certificate expired, or the broker's revocation list has",
        "ClientCertificateExpired, ClientCertificateRefused",
    ),
    (
        "TLS alert 46, 48, 49",
        "certificate unknown, of another CA, not allowed",
        "ClientCertificateRefused",
    ),
    ("TLS alert 51", "signature wrong", "KeyMismatch"),
    ("TLS alert 70", "no common TLS version", "TLSVersionTooOld"),
    ("TLS alert 112", "the broker does not know the name it was called by", "HostNameMismatch"),
    ("TLS alert 116", "no certificate shown (TLS 1.3)", "ClientCertificateMissing"),
    (
        "1 to 5 in CONNACK",
        "the broker refused the session: MQTT 3.1.1, table 3.1",
        "ProtocolRefused, ClientIdRefused, BrokerFull, NotAuthorised",
    ),
)


def page() -> str:
    """Return the whole page."""
    seen = _seen()
    sections = []
    for name in dict.fromkeys(key.partition(".")[0] for key in WORDS):
        kind: type[errors.SecureMQTTError] = getattr(errors, name)
        if kind.__base__ is errors.SecureMQTTError and name.endswith("Error"):
            sections.append(f"\n## {name.removesuffix('Error')}\n")
        passes = " (can pass by itself)" if kind.transient else ""
        sections.append(f"### {name}{passes}\n\n{kind.__doc__}\n")
        if name in seen:
            sections.append("  \n".join(f"> {what}" for what in seen[name]) + "\n")
        sections.append("| likely cause | what to do |\n|---|---|")
        subject = "FILE" if issubclass(kind, errors.BundleError) else "HOST"
        rows = [words for key, words in WORDS.items() if key.partition(".")[0] == name]
        sections += [f"| {cause} | {remedy} |".replace("{}", subject) for cause, remedy in rows]
        sections.append("")
    codes = "".join(f"| {code} | {meaning} | {error} |\n" for code, meaning, error in _CODES)
    return _HEAD + "\n".join(sections) + _TAIL + codes.replace(" --- ", "---")


def _seen() -> dict[str, list[str]]:
    """Return what each class is made with in the source: what happened, … for what is filled in."""
    seen: dict[str, list[str]] = {}
    for path in sorted(one for one in LIBRARY.rglob("*.py") if _TESTING not in one.parents):
        for name, text in _texts(ast.parse(path.read_text())):
            what = re.sub(f"{_UNKNOWN}+", _UNKNOWN, text)
            if what.strip(_UNKNOWN + " :") and what not in seen.setdefault(name, []):
                seen[name].append(what)
    return seen


def _texts(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Return class and text of each error that a module makes, and of a table of such texts."""
    makers = {name: name for name in _NAMES} | dict(_helpers(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Name) and key.id in _NAMES:
                    yield key.id, _text(value, {}).replace(_UNKNOWN, "HOST:PORT")
        elif isinstance(node, ast.FunctionDef):
            known: dict[str, ast.expr] = {}
            # In the order of the file, so that a name stands for what it was last given.
            inner = [one for one in ast.walk(node) if isinstance(one, (ast.Assign, ast.Call))]
            for one in sorted(inner, key=lambda one: (one.lineno, one.col_offset)):
                if isinstance(one, ast.Assign):
                    known.update((ast.unparse(target), one.value) for target in one.targets)
                elif one.args and ast.unparse(one.func) in makers:
                    yield makers[ast.unparse(one.func)], _text(one.args[0], known)


def _helpers(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Return the functions that do nothing but make an error of a text, each with the class."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return):
            made = node.body[-1].value
            if isinstance(made, ast.Call) and made.args and node.args.args:
                name = ast.unparse(made.func)
                if name in _NAMES and ast.unparse(made.args[0]) == node.args.args[0].arg:
                    yield node.name, name


def _text(node: ast.expr, known: dict[str, ast.expr]) -> str:
    """Return the text that an expression makes, as far as the source says it."""
    name = ast.unparse(node)
    if name in _SPOKEN_OF:
        return _SPOKEN_OF[name]
    if name in known:
        return _text(known[name], {other: known[other] for other in known if other != name})
    if isinstance(node, ast.Constant):
        return re.sub(r"\{[^}]*\}", _UNKNOWN, str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, known) + _text(node.right, known)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # text.format(…)
        return _text(node.func.value, known)
    return _UNKNOWN


if __name__ == "__main__":
    PAGE.write_text(page())
