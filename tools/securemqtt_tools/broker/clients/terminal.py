"""Lines for a terminal: mosquitto_pub and mosquitto_sub, MQTTX, openssl."""

from __future__ import annotations

import ipaddress
import shlex

from cryptography import x509

from securemqtt_tools.broker.clients.identity import WEBSOCKETS_PATH, Identity

_KEEP_ALIVE_S = 60
_CLEAN_SESSION = 2


def mosquitto(identity: Identity) -> str:
    """Return lines for mosquitto_pub and mosquitto_sub."""
    common = ["-h", identity.host, "-p", str(identity.port), "--cafile", identity.ca_path]
    common += ["--cert", identity.certificate_path, "--key", identity.key_path]
    common += ["-i", identity.id, "-q", "1"]
    password = _password(identity, "-u")
    note = f"{identity.prefix}/note"
    return (
        identity.comment("#")
        + "# One after the other: both at once are one id twice. With -r the broker keeps the note "
        "for the second;\n# the first with -n in place of -m hello takes it away again.\n"
        + _command("mosquitto_pub", common, password, "-t", note, "-m", "hello", "-r")
        + _command("mosquitto_sub", common, password, "-v", "-t", identity.own)
    )


def mqttx(identity: Identity) -> str:
    """Return lines for MQTTX's command, and what to enter in its window."""
    protocol = "wss" if identity.websockets else "mqtts"
    common = ["-V", "3.1.1", "-l", protocol, "-h", identity.host, "-p", str(identity.port)]
    common += ["--path", WEBSOCKETS_PATH] if identity.websockets else []
    common += ["-i", identity.id, "--ca", identity.ca_path]
    common += ["--cert", identity.certificate_path, "--key", identity.key_path]
    password = _password(identity, "-u")
    note = f"{identity.prefix}/note"
    window = [
        f"Name, Client ID: {identity.id}",
        f"Host: {protocol}:// {identity.host}    Port: {identity.port}",
        *([f"Path: {WEBSOCKETS_PATH}"] if identity.websockets else []),
        *([f"Username: {identity.id}, Password: in {identity.password_path}"] if password else []),
        "SSL/TLS: on    SSL Secure: on    Certificate: CA or Self signed certificates",
        f"CA File: {identity.ca_path}",
        f"Client Certificate File: {identity.certificate_path}",
        f"Client key file: {identity.key_path}",
        "MQTT Version: 3.1.1    (do not append a timestamp to the Client ID)",
    ]
    return (
        identity.comment("#")
        + _command("mqttx pub", common, password, "-q", "1", "-t", note, "-m", "hello", "-r")
        + _command("mqttx sub", common, password, "-q", "1", "-t", identity.own)
        + "# In MQTTX's window, New Connection:\n"
        + "".join(f"#   {line}\n" for line in window)
    )


def openssl(identity: Identity) -> str:
    """Return lines for openssl s_client: the handshake, and what the broker says to a CONNECT."""
    common = ["-connect", _address(identity), *_names(identity.host), "-verify_return_error"]
    common += ["-CAfile", identity.ca_path, "-cert", identity.certificate_path]
    if _has_chain(identity):
        common += ["-cert_chain", identity.certificate_path]
    common += ["-key", identity.key_path]
    text = (
        identity.comment("#")
        + "# The handshake, and the broker's certificate. With TLS 1.3 this also ends well where\n"
        + "# the broker is about to refuse ours:\n"
        + _command("openssl s_client", common, "", "-brief").rstrip("\n")
        + " </dev/null\n"
    )
    if identity.password_path is not None:
        return text  # the password would have to go into the packet
    packets = "".join(f"\\{byte:03o}" for byte in _connect(identity.id) + b"\xe0\x00")
    return (
        text
        + "# So ask as MQTT does (CONNECT, DISCONNECT): the answer 20 02 00 00 means accepted.\n"
        + f"printf '{packets}' |\n"
        + "  "
        + _command("openssl s_client", common, "", "-quiet").rstrip("\n")
        + " 2>/dev/null |\n  od -An -tx1\n"
    )


def _command(program: str, common: list[str], password: str, *more: str) -> str:
    return " ".join([program, shlex.join(common), *([password] if password else [])]) + (
        f" {shlex.join(more)}\n"
    )


def _password(identity: Identity, user_option: str) -> str:
    """Return the options of user name and password, as the shell takes them; "" without one."""
    if identity.password_path is None:
        return ""
    return f'{user_option} {identity.id} -P "$(cat {shlex.quote(identity.password_path)})"'


def _address(identity: Identity) -> str:
    host = f"[{identity.host}]" if ":" in identity.host else identity.host
    return f"{host}:{identity.port}"


def _names(host: str) -> list[str]:
    """Return what has openssl send the broker's name, and compare it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return ["-servername", host, "-verify_hostname", host]
    return ["-verify_ip", host]


def _has_chain(identity: Identity) -> bool:
    """Return True if there is an intermediate beside the certificate, which -cert leaves out."""
    content = b"".join(path.read_bytes() for path in identity.certificate)
    return len(x509.load_pem_x509_certificates(content)) > 1


def _connect(client_id: str) -> bytes:
    """Return a CONNECT of MQTT 3.1.1 with a clean session; an id has 64 bytes at most, so that the
    length is one byte (section 2.2.3).
    """
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04" + bytes([_CLEAN_SESSION]) + _KEEP_ALIVE_S.to_bytes(2, "big")
    body += len(name).to_bytes(2, "big") + name
    return bytes([0x10, len(body)]) + body
