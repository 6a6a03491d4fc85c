"""A name server (RFC 1035) on loopback, and the prefix of a command that has the C library ask it,
and nothing else.

The resolver's file cannot be named in the environment and its port is always 53: so the process
gets a mount namespace of its own, in which /etc/resolv.conf and /etc/nsswitch.conf are others, and
the server an address of its own.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import secrets
import socket
import struct
import subprocess
from pathlib import Path

from securemqtt_tools.demo.background import Background

_PORT = 53
_HEADER = struct.Struct("!6H")
_A = 1
_ANSWER, _NOT_FOUND = 0x8580, 0x8583
# Those that are tried until one is free.
_ADDRESSES = 100
# Without a user namespace where root may do without: in one, files of others than root could not be
# read.
_WAYS = (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"])
_MOUNT = (
    'mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/nsswitch.conf" '
    '/etc/nsswitch.conf && shift && exec "$@"'
)


class NameServer:
    """Answers for one name with one address, `delay_s` after it was asked; None: it says nothing at
    all. Others do not exist.
    """

    def __init__(self, name: str, address: str) -> None:
        self.delay_s: float | None = 0.0
        self.asked = 0
        self._name = (
            b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        )
        self._address = socket.inet_aton(address)
        self._socket = _bound()
        self._socket.setblocking(False)
        self.ip: str = self._socket.getsockname()[0]
        self._background = Background()

    def __enter__(self) -> NameServer:
        self._background.__enter__()
        self._background.run(self._listen())
        return self

    def __exit__(self, *exc: object) -> None:
        self._background.__exit__(*exc)
        self._socket.close()

    def prefix(self, directory: Path, give_up_s: int) -> list[str]:
        """Return what stands before a command whose resolver is to ask here, once, and to wait for
        an answer for `give_up_s`.
        """
        (directory / "resolv.conf").write_text(
            f"nameserver {self.ip}\noptions timeout:{give_up_s} attempts:1\n"
        )
        (directory / "nsswitch.conf").write_text("hosts: dns\n")
        way = _way()
        assert way is not None, "ask why_not() first"
        return [*way, "sh", "-c", _MOUNT, "sh", str(directory)]

    async def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._take)

    def _take(self) -> None:
        query, sender = self._socket.recvfrom(512)
        self.asked += 1
        if self.delay_s is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.delay_s, self._socket.sendto, self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        number = _HEADER.unpack_from(query)[0]
        end = query.index(0, _HEADER.size) + 5
        question = query[_HEADER.size : end]
        ours = question[:-4].lower() == self._name
        if not ours or struct.unpack_from("!H", question, len(question) - 4)[0] != _A:
            return _HEADER.pack(number, _ANSWER if ours else _NOT_FOUND, 1, 0, 0, 0) + question
        record = (
            struct.pack("!HHHIH", 0xC000 | _HEADER.size, _A, 1, 0, len(self._address))
            + self._address
        )
        return _HEADER.pack(number, _ANSWER, 1, 1, 0, 0) + question + record


def _bound() -> socket.socket:
    """Return a socket on port 53 of an address that is nobody else's; OSError where that is not
    allowed.
    """
    for _ in range(_ADDRESSES):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((f"127.83.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}", _PORT))
            return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no address is free")


@functools.cache
def _way() -> list[str] | None:
    """Return what starts a command in a mount namespace here, None if nothing does."""
    for way in _WAYS:
        if (
            subprocess.run(
                [*way, "mount", "--bind", "/etc/hosts", "/etc/hosts"],
                capture_output=True,
                check=False,
            ).returncode
            == 0
        ):
            return way
    return None


@functools.cache
def why_not() -> str | None:
    """Say what this process must not do of what a name server of its own takes: None if nothing."""
    try:
        _bound().close()
    except OSError as error:
        return f"no port 53 to listen on: {error}"
    return (
        None if _way() else "no mount namespaces, which take root or unprivileged user namespaces"
    )
