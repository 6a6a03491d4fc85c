"""A peer that falls silent is noticed within 1.5 x the keep-alive, by one who waits and by one who
only publishes at QoS 0.
"""

import time

from common import PATIENCE_S, SETTING, SLACK_S, Client, device, ok, until, want

# quiet all the time, but well: pings keep it up
quiet = Client(SETTING["operator"], status=False, keep_alive_s=5)
quiet.connect()
quiet_since = time.time()

publisher = device(keep_alive_s=5)
publisher.connect()
publisher.wait(0.3)
want("up hold")
want("down hold")
start = time.time()
while publisher.connected and time.time() - start < PATIENCE_S:
    publisher.publish("~/zero", b"x", qos=0)
    publisher.wait(0.1)
    quiet.wait(0.01)
taken = time.time() - start
ok(
    type(publisher.last_error).__name__ == "TimedOut",
    "silence is noticed by a publisher of QoS 0: TimedOut",
)
ok(
    taken < 7.5 + SLACK_S,
    f"within 1.5 x the keep-alive, and what a busy machine adds: {taken} s",
)
want("proxy reset")
want("up release")
want("down release")
ok(until(lambda: publisher.connected, publisher, quiet), "and it connects again")
publisher.disconnect()

while time.time() - quiet_since < 8.5:
    quiet.wait(0.1)
ok(
    quiet.connected and quiet.stats["connects"] == 1,
    "a quiet connection stays, since pings are answered",
)
quiet.disconnect()
