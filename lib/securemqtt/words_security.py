"""Cause and remedy where a proof of identity did not hold.

See diagnose.py; {} is the broker's host.
"""

_REISSUE = "issue a new one: python tools/provision.py BOARD --id ID --broker HOST --renew"
_SERVER = "on the broker's computer: python tools/broker.py reload, which renews it"
_BROKER_TRUST = (
    "provision this device from the broker's CA (python tools/provision.py), or add "
    "its CA to cafile in mosquitto.conf"
)

WORDS = {
    "SecurityError": (
        "broker and device do not agree on how to prove who they are",
        "look at the broker's log",
    ),
    "NotTLS": (
        "this is a port without TLS (1883 is, as a rule), or another service's",
        "set port in config.json to the broker's TLS port (8883, as a rule); a broker without "
        "one: python tools/broker.py init",
    ),
    "TLSVersionTooOld": (
        "the broker speaks TLS 1.1 or older only",
        "update it; in mosquitto.conf: tls_version tlsv1.2",
    ),
    "TLSVersionTooOld.alert": (
        "broker and device share no version: it speaks TLS 1.1 or older only, or 1.3 only, which "
        "MicroPython does not have",
        "in mosquitto.conf: tls_version tlsv1.2 (which allows 1.3, too); update a broker that "
        "cannot",
    ),
    "HandshakeFailed": (
        "broker and device do not agree on the terms of TLS",
        "look at the broker's log; certificates with a P-256 key suit every board; python "
        "tools/broker.py check",
    ),
    "HandshakeFailed.40": (
        "they share no cipher suite: this device takes ECDHE with AEAD only",
        "remove ciphers from mosquitto.conf; give the broker a certificate with a P-256 key: "
        "python tools/broker.py init --force",
    ),
    "HandshakeFailed.certificate": (
        "it is not fit for a server: its use, its key or its signature is not acceptable",
        "on the broker's computer: python tools/broker.py init --force, which issues a new one",
    ),
    "UnknownCA": (
        "the broker has a certificate from another CA than the one this device trusts; or "
        "somebody is posing as the broker",
        "if the CA was made anew, provision this device again: python tools/provision.py; else "
        "find out who answers at {}",
    ),
    "CertificateExpired": ("it was not renewed in time; or this device's clock is ahead", _SERVER),
    "CertificateNotYetValid": (
        "the clock of this device, or of the computer that issued it, is wrong",
        "compare both clocks with the date; then " + _SERVER,
    ),
    "ClockWrong": (
        "the clock starts at a fixed date when power comes on, and no time server has set it",
        "let it reach its NTP server (ntp_host in config.json, UDP port 123); or set the clock: "
        "mpremote rtc --set (a Pi: timedatectl)",
    ),
    "HostNameMismatch": (
        "the device calls the broker by a name or address that its certificate does not list",
        "put a name that it lists into config.json as host; or make it anew, its other names too: "
        "python tools/broker.py init --force {} NAME…",
    ),
    "ClientCertificateMissing": (
        "config.json names no certificate, and the broker demands one",
        "provision this device: python tools/provision.py BOARD --id ID --broker HOST",
    ),
    "ClientCertificateExpired": ("it was not renewed in time", _REISSUE),
    "ClientCertificateRefused": (
        "another CA issued it than the broker trusts, or it is not for a client",
        _BROKER_TRUST,
    ),
    "ClientCertificateRefused.42": (
        "its time has not begun yet by the broker's clock, or the broker cannot read it",
        "correct the clock of the broker's computer (timedatectl); else " + _REISSUE,
    ),
    "ClientCertificateRefused.43": ("it was issued for another use, such as a server's", _REISSUE),
    "ClientCertificateRefused.45": (
        "it is valid by this device's clock, so the broker's revocation list (CRL) has run out, "
        "which shuts out everyone; or a clock is wrong",
        "on the broker's computer: python tools/broker.py reload, which signs a new list; compare "
        "its clock with this device's",
    ),
    "ClientCertificateRefused.48": (
        "another CA issued it than the one that the broker trusts",
        _BROKER_TRUST,
    ),
    "ClientCertificateRevoked": (
        "somebody revoked it with tools/ca.py revoke: the device was lost, replaced or given away",
        "if that was a mistake, " + _REISSUE,
    ),
}
