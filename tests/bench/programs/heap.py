"""Heap that securemqtt takes once it is connected and a message is sent, TLS included:
`micropython heap.py BUNDLE [received] [durable] [IMAGE.romfs]`.

`received`: something came in, too. `durable`: with the durable outbox. An image holds the library,
which runs from there, as it does from the flash of a board with ROMFS.
"""

# The firmware's own modules, and umqtt.simple, before the measurement: they are not securemqtt's.
import errno  # noqa: F401
import gc
import json  # noqa: F401
import os  # noqa: F401
import random  # noqa: F401
import select  # noqa: F401
import socket  # noqa: F401
import sys
import time  # noqa: F401

import tls  # noqa: F401
import umqtt.simple  # noqa: F401


def used():
    """Return the bytes of the heap that are in use."""
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


def quiet(level, text):
    """Print nothing."""


bundle = sys.argv[1]
options = {}
if "durable" in sys.argv:
    options = {"outbox": "durable", "outbox_dir": bundle + "/outbox"}
if sys.argv[-1].endswith(".romfs"):
    import vfs

    with open(sys.argv[-1], "rb") as file:  # noqa: PTH123  (MicroPython has no pathlib)
        vfs.mount(vfs.VfsRom(file.read()), "/rom")
    sys.path.insert(0, "/rom")
got = []
before = used()

from securemqtt import Client, log_to  # noqa: E402

log_to(quiet)
client = Client(bundle, **options)
if "received" in sys.argv:
    client.subscribe("~/command", lambda message: got.append(len(message.payload)))
client.connect()
if "received" in sys.argv:
    client.publish("~/command", b"x" * 64)
    while not got:
        client.wait(0.1)
client.publish("~/t", b"x" * 64)
if not client.flush(10):
    raise OSError("not everything was acknowledged")
print("figure", used() - before)
