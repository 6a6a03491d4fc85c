"""Messages per second of securemqtt on CPython: `python rate_securemqtt.py BUNDLE COUNT WINDOW
[DIRECTORY]`; with a directory from the durable outbox there, synced at intervals.
"""

import sys
import time

from securemqtt import Client

bundle, count, window = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = {"outbox_messages": 2 * count, "outbox_bytes": 1 << 28}
if len(sys.argv) > 4:
    options = {
        "outbox": "durable",
        "outbox_fsync": "interval",
        "outbox_dir": sys.argv[4],
        "outbox_journal_bytes": 1 << 26,
        "outbox_messages": 2 * count,
    }
with Client(bundle, clean_session=True, window=window, **options) as client:
    payload = b"x" * 64
    start = time.perf_counter()
    for _ in range(count):
        client.publish("~/t", payload)
    if not client.flush(120):
        raise OSError("not everything was acknowledged")
    print("figure", count / (time.perf_counter() - start))
