"""Seconds that a connection and a TLS handshake take: `micropython handshake_board.py BUNDLE`."""

import sys
import time

from bare_identity import Identity

identity = Identity(sys.argv[1])
start = time.time_ns()
identity.connect()
print("figure", (time.time_ns() - start) / 1e9)
