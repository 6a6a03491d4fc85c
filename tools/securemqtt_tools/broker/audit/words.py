"""What OpenSSL and the brokers say of a refusal, in words that tell what to do."""

from __future__ import annotations

import re

# In this order; by what is in the text, which may have an error code in front.
_WORDS = (
    ("certificate revoked", "its certificate has been revoked"),
    ("certificate has expired", "its certificate has run out"),
    ("certificate expired", "its certificate has run out"),
    ("certificate is not yet valid", "its certificate is not valid yet: is a clock wrong?"),
    ("unable to get local issuer", "its certificate is of another authority"),
    ("self-signed certificate", "its certificate is of another authority"),
    ("self signed certificate", "its certificate is of another authority"),
    ("alert unknown ca", "it does not accept the broker's certificate"),
    ("unknown ca", "its certificate is of another authority"),
    (
        "certificate verify failed",
        "its certificate is not accepted: revoked, run out, or of another authority",
    ),
    ("did not return a certificate", "it showed no certificate"),
    ("certificate required", "it showed no certificate"),
    ("alert bad certificate", "it does not accept the broker's certificate"),
    ("alert certificate unknown", "it does not accept the broker's certificate"),
    ("unexpected message", "it does not speak TLS"),
    ("wrong version number", "it does not speak TLS"),
    ("http request", "it does not speak TLS"),
    ("unsupported protocol", "it speaks no version of TLS that is allowed"),
    ("no shared cipher", "it has no cipher that is allowed"),
    ("unexpected eof", "it went away before it was let in"),
)


def in_words(text: str) -> str:
    """Return what a text of OpenSSL's means; the text itself where that is unknown."""
    plain = text.replace("_", " ").lower()
    for part, meaning in _WORDS:
        if part in plain:
            return meaning
    return re.sub(r"^error:[0-9A-F]+:[^:]*:[^:]*:", "", text)
