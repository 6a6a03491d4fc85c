"""TLS handshakes that fail, for the log: asyncio tells nobody of them, nor whose they were."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextvars import ContextVar
from typing import Any

from securemqtt_tools.broker.networks import plain_address

_log = logging.getLogger("securemqtt.broker")
# asyncio runs what belongs to a connection in the context in which it was accepted.
_address: ContextVar[str] = ContextVar("address", default="?")


class Listener(socket.socket):
    """A listening socket that notes from where each connection comes."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        connection, peer = super().accept()
        _address.set(plain_address(peer[0]))
        return connection, peer


class Handshake(ssl.SSLObject):
    """TLS that says in the log why a handshake has failed."""

    def do_handshake(self) -> None:
        """Go on with it. Raise ssl.SSLError."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", None) or error.reason or str(error)
            _log.warning("refused ? from %s: TLS: %s", _address.get(), why)
            raise


def address_of(transport: asyncio.BaseTransport) -> str:
    """Return from where a connection comes; ? for one that has broken already."""
    peer = transport.get_extra_info("peername")
    return plain_address(peer[0]) if peer else "?"
