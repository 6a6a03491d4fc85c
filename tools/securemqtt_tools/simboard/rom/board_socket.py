"""The module `socket` of the board: every address lies behind the simulator's radio.

`getaddrinfo` asks the simulator, which resolves the name and opens a door to it on loopback. What
goes through that door stops when the Wi-Fi is switched off; sockets that listen are not affected.
"""

from socket import *
from socket import getaddrinfo as _getaddrinfo

import wire


def getaddrinfo(host, port, af=0, type=0, proto=0, flags=0):
    """Resolve a name over the board's Wi-Fi; OSError(-2) without a connection or for a name that is
    not known.
    """
    if isinstance(host, (bytes, bytearray)):
        host = str(host, "utf-8")
    door = wire.ask("resolve", host, port, type)
    return _getaddrinfo("127.0.0.1", door, AF_INET, type or SOCK_STREAM)
