"""Connect as told, stay for a moment, and print what went wrong as one line of JSON: run by CPython
and by MicroPython.

Arguments: the bundle's directory, options of Client as JSON, how many seconds to stay connected,
and how many bytes of the heap an application leaves to its client (MicroPython only; 0: all).
"""

import gc
import json
import sys

from securemqtt import Client, log_to
from securemqtt.errors import SecureMQTTError


def main(bundle: str, options: str, stay_s: str, left_bytes: str) -> None:
    """Print the error that ended the attempt, or null if there was none."""
    log_to(lambda level, text: None)
    hoard = None
    options = json.loads(options)
    try:
        client = Client(bundle or None, **options)
        while int(left_bytes) and gc.mem_free() > int(left_bytes):
            hoard = (bytearray(64), hoard)
            gc.collect()
        client.connect(3 * options["connect_timeout_s"])
        for _ in range(int(stay_s) * 10):
            if client.last_error:
                break
            client.wait(0.1)
        error = client.last_error
    except SecureMQTTError as raised:
        error = raised
    hoard = None  # what is said next has room
    if error is None:
        print("null")
        return
    parts = {name: getattr(error, name) for name in ("what", "cause", "remedy", "transient")}
    parts.update({"name": type(error).__name__, "text": str(error), "code": str(error.code)})
    print(json.dumps(parts))


main(*sys.argv[1:])
