"""What ordinary programs do with a client beside calling it: fork, handle signals, end.

    python callers.py BUNDLE PART [OUTBOX]

Prints `ok <what>` for each thing that held.
"""

import faulthandler
import os
import random
import signal
import stat
import sys
import threading
import time

from securemqtt import Client
from securemqtt.errors import SecureMQTTError, UsageError

COUNT = 50
RUN_S = 60


def ok(held, what):
    if not held:
        raise AssertionError(what)
    print("ok", what, flush=True)


def refused(call, *arguments):
    try:
        call(*arguments)
    except UsageError as error:
        return "make a Client in the process" in str(error)
    return False


def in_child(work):
    """Do something in a forked child, which ends as a program does; return its exit status."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        work()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_offline(bundle, outbox):
    """A child tries all that it could do with 50 messages of its parent's."""
    client = Client(bundle, outbox=outbox)
    deliveries = [client.publish("~/number", str(n)) for n in range(COUNT)]

    def child():
        calls = [
            (client.publish, "~/number", "child"),
            (client.subscribe, "~/x", print),
            (client.connect,),
            (client.start,),
            (client.wait, 0),
            (client.poll,),
            (client.run_forever,),
            (client.flush, 0),
            (client.disconnect,),
            (client.on_state, print),
            (client.on_error, print),
            (deliveries[0].wait, 0),
        ]
        for call in calls:
            ok(refused(*call), f"the child may not {call[0].__name__}")
        ok(client.state == "closed" and not client.connected, "to the child it is closed")

    ok(in_child(child) == 0, "the child has ended")
    ok(client.pending == COUNT, "the parent's messages are all there")
    with client:
        ok(client.flush(RUN_S), "and arrive")
        ok(all(delivery.acknowledged for delivery in deliveries), "each of them")


def fork_in_handler(bundle, outbox):
    """A child that is forked in a handler leaves from there, with a status of its own."""
    client = Client(bundle, outbox=outbox)
    statuses = []

    def handle(message):
        statuses.append(in_child(lambda: sys.exit(7)))

    client.subscribe("~/command/fork", handle)
    with client:
        client.publish("~/command/fork", b"")
        end = time.monotonic() + RUN_S
        while not statuses and time.monotonic() < end:
            client.wait(0.1)
        ok(statuses == [7], "the child's own status")
        client.publish("~/number", "0")
        ok(client.flush(RUN_S), "the parent goes on")


def _is_socket(descriptor):
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:  # it is not open
        return False


def fork_connected(bundle, outbox):
    """Children leave the parent's `with` while the parent publishes."""
    client = Client(bundle, outbox=outbox)

    def sockets():
        return [number for number in range(3, 200) if _is_socket(number)]

    def child():
        ok(not sockets(), "no socket is left to the child")
        try:
            client.publish("~/number", "child")
        except UsageError:
            return
        raise AssertionError("it could publish")

    with client:
        for number in range(COUNT):
            client.publish("~/number", str(number))
            if number % 10 == 5:
                sys.stdout.flush()
                forked = os.fork()
                if not forked:
                    child()
                    break
                ok(os.waitpid(forked, 0)[1] == 0, "a child has ended")
        else:
            ok(client.flush(RUN_S), "all arrived")
            ok(client.stats["connects"] == 1, "by one connection")


def orphan(bundle, outbox):
    """The parent is killed and its child lives on: the outbox is free for the next program."""
    client = Client(bundle, outbox=outbox)
    client.connect()
    if os.fork():
        client.publish("~/number", "0")
        client.flush(RUN_S)
        os.kill(os.getpid(), signal.SIGKILL)
    print("child", os.getpid(), flush=True)
    while True:
        time.sleep(60)


def end(bundle, outbox):
    """The last line is a publish."""
    client = Client(bundle, outbox=outbox)
    in_child(lambda: None)
    client.publish("~/number", "0")
    client.publish("~/number", "1")


def end_flushed(bundle, outbox):
    """The last line waits for what was published."""
    client = Client(bundle, outbox=outbox)
    client.connect()
    client.publish("~/number", "0")
    ok(client.flush(RUN_S), "flushed")


def end_disconnected(bundle, outbox):
    """It left in order, and was told then."""
    client = Client(bundle, outbox=outbox)
    client.start()
    client.publish("~/number", "0")
    client.disconnect()


def signals(bundle, outbox):
    """A timer's signal strikes while the program and a thread publish; the first one at once."""
    counts = {"main": 0, "handler": 0, "thread": 0}
    total = 1500
    # Says where each thread is, should one wait for ever.
    faulthandler.dump_traceback_later(2 * RUN_S, exit=True)
    client = Client(bundle, outbox=outbox, outbox_messages=4 * total, outbox_interval_s=0.05)
    deliveries = []
    seed = random.randrange(1 << 24)
    moments = random.Random(seed)
    print("seed", seed)

    def publish(name):
        number = counts[name]
        counts[name] += 1
        deliveries.append(client.publish("~/" + name, {"number": number}))

    def strike(number, frame):
        publish("handler")
        if counts["handler"] < total:  # only now: however long this took, the next one is not in it
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.00001, 0.002))

    def in_thread():
        for _ in range(total):
            publish("thread")

    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.0001)
    thread = threading.Thread(target=in_thread)
    thread.start()
    publish("main")
    client.connect()
    ends = time.monotonic() + RUN_S
    while counts["main"] < total or counts["handler"] < total:
        if counts["main"] < total:
            publish("main")
        client.poll()
        if time.monotonic() > ends:
            raise AssertionError(str(counts))
    thread.join(RUN_S)
    ok(not thread.is_alive(), "the thread is through")
    ok(client.flush(RUN_S), "all arrived")
    sent = sum(counts.values())
    ok(client.stats["sent"] == client.stats["acknowledged"] == sent, "and are counted")
    ok(len(deliveries) == sent, "each has its delivery")
    ok(all(one.acknowledged and not one.dropped for one in deliveries), "which says so")
    client.disconnect()
    print("counts", *(counts[name] for name in ("main", "handler", "thread")))


def imports(bundle, outbox):
    """A signal handler may interrupt an import, so `publish` makes none, whatever becomes of it."""
    client = Client(
        bundle, outbox=outbox, outbox_messages=3, outbox_bytes=2000, max_publish_bytes=3000
    )
    before = set(sys.modules)
    refusals = []
    for topic, payload in (
        ("~/a", b"1"),
        ("elsewhere", "ü"),
        ("küche/temperatur", {"celsius": 21.5}),
        ("a/+", b""),
        ("", b""),
        ("~/large", bytes(2500)),
        ("~/too-large", bytes(4000)),
        ("~/a", object()),
    ) + (("~/full", b"0"),) * 3:
        try:
            client.publish(topic, payload)
        except SecureMQTTError as error:
            refusals.append(type(error).__name__)
    wanted = ["InvalidTopic"] * 2 + ["MessageTooLarge"] * 2 + ["InvalidPayload"]
    ok(refusals[:5] == wanted, "what cannot be taken is refused: " + str(refusals))
    if outbox == "ram":
        ok(refusals[5:] == ["OutboxFull"] * 3, "so is what there is no room for")
    new = {name for name in set(sys.modules) - before if name.startswith("securemqtt")}
    ok(not new, "nothing was imported for that: " + str(new))


PARTS = {
    part.__name__: part
    for part in (
        fork_offline,
        fork_connected,
        fork_in_handler,
        orphan,
        end,
        end_flushed,
        end_disconnected,
        signals,
        imports,
    )
}
PARTS[sys.argv[2]](sys.argv[1], sys.argv[3])
