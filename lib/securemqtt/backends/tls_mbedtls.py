"""TLS on MicroPython: the context, and the way to a connection. Not kept in a board's memory, see `_compat.rarely`; stream.py is.

Only `tls.SSLContext` is used: the Python wrapper `ssl.SSLContext` starts without verification. TLS 1.2 is what MicroPython speaks; its build
of mbedTLS has ECDHE with AEAD and with CBC, and the broker's configuration picks AEAD (RFC 9325, section 4.2).
"""

import errno
import select
import socket

import tls

from .. import files
from .._compat import TYPE_CHECKING, const, rarely
from ..failure import failure, unreadable

if TYPE_CHECKING:
    from typing import Any

    from .stream import Stream

_IPPROTO_TCP = const(6)
_TCP_NODELAY = const(1)


def make_context(settings: "dict[str, Any]") -> "Any":
    """Make the context of a device: verification on, its trust anchors and its identity loaded. Raises BundleError's kinds, NotSupported."""
    for option in ("alpn", "system_trust", "key_password"):
        if settings[option]:
            raise failure("NotSupported", "MicroPython has no " + option)
    if settings["transport"] != "tls":
        raise failure("NotSupported", "MicroPython has no transport but tls")
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    directory = settings["path"]
    anchors = files.names(settings, "ca")
    if not anchors:
        raise failure("UsageError", "the bundle names no CA: the broker could not be verified")
    for name in anchors:
        _load(directory, name, context.load_verify_locations)
    chain = files.names(settings, "certificate")
    if chain:
        key = files.read(directory, settings["key"])
        for name in chain:
            _load(directory, name, lambda certificate: context.load_cert_chain(certificate, key), settings["key"])
        rarely("backends.keys_mbedtls").check(settings, key)
    return context


def _load(directory: str, name: str, load: "Any", key: str = "") -> None:
    content = files.read(directory, name)
    try:
        load(content)
    except ValueError as error:
        if "key" in str(error):
            name, content = key, files.read(directory, key)
        raise unreadable(files.full_name(directory, name), content, str(error))


def opening(stream: "Stream", context: "Any", settings: "dict[str, Any]") -> "Any":
    """Give a generator that connects `stream`, yielding after 10 ms at most. The handshake itself is driven by the first `flush`."""
    stream.stage = "resolve"
    addresses = socket.getaddrinfo(settings["host"], settings["port"], 0, socket.SOCK_STREAM)
    stream.stage = "connect"
    failed: "OSError | None" = None
    for family, kind, protocol, _, address in addresses[:4]:
        raw = socket.socket(family, kind, protocol)
        raw.setblocking(False)
        try:
            yield from _connecting(raw, address)
        except OSError as error:
            failed = error
            raw.close()
            continue
        try:
            raw.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
        except OSError:
            # A port without the option: packets that share records make up for most of what Nagle's algorithm costs.
            stream.stage = "connect"
        stream.stage = "handshake"
        stream.attach(raw, context.wrap_socket(raw, server_hostname=settings["host"], do_handshake_on_connect=False))
        return
    raise failed or OSError(errno.ECONNREFUSED)


def _connecting(raw: "Any", address: "Any") -> "Any":
    try:
        raw.connect(address)
        return
    except OSError as error:
        if error.errno != errno.EINPROGRESS:
            raise
    poll = select.poll()
    poll.register(raw, select.POLLOUT)
    while True:
        for _, event in poll.ipoll(10):
            if not event & (select.POLLERR | select.POLLHUP):
                return
            raw.connect(address)  # raises what the connection failed with
            raise OSError(errno.ECONNREFUSED)
        yield
