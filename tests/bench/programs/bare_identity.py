"""What programs without securemqtt need on MicroPython: a verified TLS connection from a bundle,
and what umqtt.simple takes for the module `socket`: its release 1.3.4 cannot set up TLS like that.
"""

import json
import socket

import tls


def _read(path):
    with open(path, "rb") as file:  # noqa: PTH123  (MicroPython has no pathlib)
        return file.read()


class Identity:
    """A bundle's settings and its TLS context."""

    def __init__(self, bundle):
        with open(bundle + "/config.json") as file:  # noqa: PTH123
            config = json.load(file)
        self.client_id = config["client_id"]
        self.host = config["host"]
        self.port = config["port"]
        self.topic = "devices/" + self.client_id + "/t"
        self.context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        self.context.verify_mode = tls.CERT_REQUIRED
        self.context.load_verify_locations(_read(bundle + "/" + config["ca"][0]))
        self.context.load_cert_chain(
            _read(bundle + "/" + config["certificate"][0]), _read(bundle + "/" + config["key"])
        )

    def connect(self):
        """Return a connected TLS socket."""
        raw = socket.socket()
        raw.connect(socket.getaddrinfo(self.host, self.port)[0][-1])
        return self.context.wrap_socket(raw, server_hostname=self.host)


class SocketModule:
    """What umqtt.simple is to use in place of the module `socket`."""

    getaddrinfo = socket.getaddrinfo

    def __init__(self, identity):
        self._identity = identity

    def socket(self, *arguments):
        return _Secured(self._identity)


class _Secured:
    def __init__(self, identity):
        self._identity = identity

    def connect(self, address):
        secured = self._identity.connect()
        self.write = secured.write
        self.read = secured.read
        self.setblocking = secured.setblocking
        self.close = secured.close

    def settimeout(self, timeout):
        """Wait for ever, as umqtt.simple does by default."""
