"""The longest step of mbedTLS's own handshake, in ms, without securemqtt: for so long nothing else
can run: `micropython handshake_step.py BUNDLE`.
"""

import errno
import select
import socket
import sys
import time

from bare_identity import Identity

identity = Identity(sys.argv[1])
raw = socket.socket()
raw.connect(socket.getaddrinfo(identity.host, identity.port)[0][-1])
raw.setblocking(False)
secured = identity.context.wrap_socket(
    raw, server_hostname=identity.host, do_handshake_on_connect=False
)
poll = select.poll()
poll.register(raw, select.POLLIN)
longest_us = 0
# Writing shakes hands first, as far as that goes without waiting.
while True:
    begun_us = time.ticks_us()
    try:
        written = secured.write(b"\xc0\x00")
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        written = None
    longest_us = max(longest_us, time.ticks_diff(time.ticks_us(), begun_us))
    if written:
        break
    poll.poll(1000)
print("figure", longest_us / 1000)
