"""Fail again and again, and print after each failure how much of the heap is taken: what a
diagnosis needs is given back. MicroPython only.
"""

import gc
import sys

from securemqtt import Client, log_to
from securemqtt.errors import SecureMQTTError


def main(bundle: str, times: str) -> None:
    """Connect so many times; one number per line, the error's name behind it."""
    log_to(lambda level, text: None)
    client = Client(bundle)
    for _ in range(int(times)):
        name = ""
        try:
            client.connect()
        except SecureMQTTError as error:
            name = type(error).__name__
        gc.collect()
        print(gc.mem_alloc(), name)


main(*sys.argv[1:])
