"""The durable outbox: CPython against plain paho sending from memory, a backlog drained; a board's
heap and the wear of its flash.

`measure(setting)` gives figures; run.py prints them beside their floors.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys

from bench_cpython import PAHO
from bench_micropython import HEAP, HEAP_UMQTT, SMALLEST, smallest_heap
from setting import Setting

from faults.flash_rig import FlashDevice, directory_in_memory

_ROUNDS = 5
_MESSAGES = 10_000
_WINDOW = 20
# Messages for the wear of a flash: as many as a board's journal has room for, so many per interval.
_WEARING = 400
_INTERVAL = 10

OPTIONS = (
    'outbox="durable", outbox_fsync="interval", outbox_dir=sys.argv[4], outbox_journal_bytes=1 << '
    "26, outbox_messages=20000, "
    "clean_session=True"
)

STEADY = f"""
import sys, time
from securemqtt import Client
count = int(sys.argv[2])
with Client(sys.argv[1], window=int(sys.argv[3]), {OPTIONS}) as client:
    payload = b"x" * 64
    start = time.perf_counter()
    for _ in range(count):
        client.publish("~/t", payload)
    assert client.flush(120)
    print(count / (time.perf_counter() - start))
"""

FILL = f"""
import sys
from securemqtt import Client
client = Client(sys.argv[1], {OPTIONS})
for _ in range(int(sys.argv[2])):
    client.publish("~/t", b"x" * 64)
client.flush(0)
"""

DRAIN = f"""
import sys, time
from securemqtt import Client
client = Client(sys.argv[1], window=int(sys.argv[3]), {OPTIONS})
count = int(sys.argv[2])
assert client.pending == count, client.pending
start = time.perf_counter()
client.connect()
assert client.flush(120)
print(count / (time.perf_counter() - start))
"""

DURABLE = 'Client(sys.argv[1], outbox="durable", outbox_dir=sys.argv[1] + "/outbox"'


def measure(setting: Setting) -> dict[str, float]:
    """Return the figures; a round alternates the sides."""
    bundle = setting.bundle("durable-pi", der=False)
    scratch = setting.directory / "durable"

    def run(program: str) -> float:
        arguments = [str(bundle), str(_MESSAGES), str(_WINDOW), str(scratch)]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return float(done.stdout or 0)

    rounds = []
    for _ in range(_ROUNDS):
        paho, steady = run(PAHO), run(STEADY)
        run(FILL)
        rounds.append((steady / paho, run(DRAIN) / paho))
        shutil.rmtree(scratch, ignore_errors=True)
    return {
        "durable, interval, against plain paho": statistics.median(steady for steady, _ in rounds),
        "backlog of 10,000 drained, against plain paho": statistics.median(
            drained for _, drained in rounds
        ),
        **_heap(setting),
        **_wear(setting),
    }


def _heap(setting: Setting) -> dict[str, float]:
    library = setting.board_library()
    bundle = setting.bundle("durable-board", der=True)

    def run(program: str) -> float:
        return float(setting.micropython_output(program, str(bundle), "0", path=library))

    heap = run(_durable(HEAP)) - run(HEAP_UMQTT)
    return {
        "heap with the durable outbox, kB": heap / 1000,
        "smallest heap with the durable outbox, kB": smallest_heap(
            setting, bundle, library, _durable(SMALLEST)
        ),
    }


def _wear(setting: Setting) -> dict[str, float]:
    """Return erases and bytes programmed for each message of 64 bytes, by
    tests/faults/test_journal_wear.py's rig.
    """
    figures = {}
    for fsync in ("each", "interval"):
        for away in (False, True):
            with (
                directory_in_memory() as scratch,
                FlashDevice(
                    setting.authority, scratch, outbox_fsync=fsync, outbox_interval_s=3600
                ) as device,
            ):
                device.wear(0, away, _INTERVAL)  # the file system and the directory are made
                stats = device.wear(_WEARING, away, _INTERVAL)
            name = f"{fsync}, broker {'away' if away else 'there'}"
            figures[f"flash erases per message, {name}"] = stats.erases / _WEARING
            figures[f"flash bytes per message, {name}"] = stats.programmed_bytes / _WEARING
    return figures


def _durable(program: str) -> str:
    changed = program.replace("Client(sys.argv[1]", DURABLE)
    if changed == program:
        raise RuntimeError("the program makes no client")
    return changed
