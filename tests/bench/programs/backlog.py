"""Fill a durable outbox without a connection, or drain it: `python backlog.py fill|drain BUNDLE
COUNT WINDOW DIRECTORY`; prints messages per second.
"""

import sys
import time

from securemqtt import Client

what, bundle, count, window = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = Client(
    bundle,
    clean_session=True,
    window=window,
    outbox="durable",
    outbox_fsync="interval",
    outbox_dir=sys.argv[5],
    outbox_journal_bytes=1 << 26,
    outbox_messages=2 * count,
)
if what == "drain" and client.pending != count:
    raise OSError(f"{client.pending} messages wait in place of {count}")
start = time.perf_counter()
if what == "fill":
    for _ in range(count):
        client.publish("~/t", b"x" * 64)
    client.flush(0)
else:
    client.connect()
    if not client.flush(120):
        raise OSError("not everything was acknowledged")
print("figure", count / (time.perf_counter() - start))
