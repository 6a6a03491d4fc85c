"""The module `ntptime` of the board: set its clock from a time server (SNTP, RFC 4330)."""

import struct

host = "pool.ntp.org"
timeout = 1

_PORT = 123
_CLIENT_VERSION_4 = b"\x23"
_TRANSMIT_TIMESTAMP = 40
_SECONDS_1900_TO_1970 = 2208988800


def time():
    """Ask the server; return seconds since the board's epoch.

    OSError when there is no answer in `timeout` seconds.
    """
    import socket
    import time

    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        server.settimeout(timeout)
        server.sendto(
            _CLIENT_VERSION_4 + bytes(47),
            socket.getaddrinfo(host, _PORT, 0, socket.SOCK_DGRAM)[0][-1],
        )
        answer = server.recv(48)
    finally:
        server.close()
    seconds = struct.unpack_from("!I", answer, _TRANSMIT_TIMESTAMP)[0] - _SECONDS_1900_TO_1970
    return seconds + time.mktime((1970, 1, 1, 0, 0, 0, 0, 0))


def settime():
    """Set the board's clock to the server's time."""
    import time as clock

    import machine

    year, month, day, hours, minutes, seconds, weekday, _ = clock.gmtime(time())
    machine.RTC().datetime((year, month, day, weekday, hours, minutes, seconds, 0))
