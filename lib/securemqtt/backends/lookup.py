"""Looking up a name without waiting for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any


class Lookup(threading.Thread):
    """A look-up of a name that can be given up: getaddrinfo itself knows no time-out."""

    def __init__(self, host: str, port: int, done: Callable[[], None]) -> None:
        super().__init__(name="securemqtt-lookup", daemon=True)
        self._name_and_port = (host, port)
        self._done = done
        self._addresses: list[Any] = []
        self._error: OSError | None = None
        self.finished = False

    def run(self) -> None:
        try:
            self._addresses = socket.getaddrinfo(*self._name_and_port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: what cannot be a name at all
            self._error = (
                error
                if isinstance(error, OSError)
                else socket.gaierror(socket.EAI_NONAME, str(error))
            )
        finally:
            self.finished = True
            self._done()

    def result(self) -> list[Any]:
        """Return the addresses, or raise what the look-up failed with."""
        if self._error is not None:
            raise self._error
        return self._addresses
