"""A man in the middle: a TLS server with the broker's names in its certificate, from a CA of its
own, that notes what it is told.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.demo.failure import Failed, wait_for
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.files import write_file

_CONNECTION_S = 10.0
_POLL_S = 0.1
_READ_BYTES = 65_536
_SECRET = b"a secret for the broker alone"


class MachineInTheMiddle:
    """The server, in a thread of its own, on a free port of loopback.

    It takes whoever comes, without a certificate too.
    """

    def __init__(self, directory: Path, foreign: Authority, names: tuple[str, ...]) -> None:
        issued = foreign.issue_server(names, renew=True)
        server = directory / "middle.pem"
        write_file(server, issued.key_pem() + issued.chain_pem())
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(server)
        self._root = foreign.root.public_bytes(Encoding.PEM).decode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="middle", daemon=True)
        self.port: int = self._listener.getsockname()[1]
        self.visitors = 0  # who came
        self.victims = 0  # who went through with the handshake
        self.heard = b""  # what they said then

    def __enter__(self) -> MachineInTheMiddle:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(_CONNECTION_S)
        self._listener.close()

    def prove(self) -> None:
        """Fool somebody who trusts the wrong CA, so that it is known that this server would hear
        what it is told. Failed if it does not.
        """
        gullible = ssl.create_default_context(cadata=self._root)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=_CONNECTION_S) as connection,
            gullible.wrap_socket(connection, server_hostname="localhost") as secured,
        ):
            secured.sendall(_SECRET)
        wait_for(lambda: _SECRET in self.heard, "the machine in the middle to hear what it is told")
        self.visitors = self.victims = 0
        self.heard = b""

    def check_unheard(self) -> None:
        """Raise Failed when somebody has trusted it."""
        if self.victims or self.heard:
            raise Failed(
                f"the machine in the middle was trusted by {self.victims} of {self.visitors} "
                f"and heard {len(self.heard)} bytes"
            )

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            # it is refused, as it should be, or the peer has gone
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_CONNECTION_S)
                self.visitors += 1
                self._listen(connection)

    def _listen(self, connection: socket.socket) -> None:
        with self._context.wrap_socket(connection, server_side=True) as secured:
            self.victims += 1
            while data := secured.recv(_READ_BYTES):
                self.heard = (self.heard + data)[-_READ_BYTES:]
