"""How a fleet comes back after its broker was away: `python tests/bench/recovery.py [--plot
docs/recovery.svg]`.

1. A million simulated clients with the shipped back-off, against the same back-off without jitter:
connections per second. 2. A thousand real clients with mutual TLS, one Mosquitto on loopback that
is killed and started again: the same curve. 3. The broker's CPU per reconnect, with TLS session
resumption against full handshakes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter

from setting import Setting, setting

from securemqtt.protocol.backoff import next_delay
from support.models.fleet import arrivals

_FLEET = 1_000_000
_AWAY_S = 300
_PROCESSES = 4
_PER_PROCESS = 250
_REAL_AWAY_S = 20
_RECONNECTS = 300

# A process with many clients: prints when each came back after `go`, and after how many failures.
CLIENTS = """
import json, logging, sys, time
logging.disable()
from securemqtt import Client
bundles = sys.argv[1:]
count = len(bundles)
clients = [Client(bundle, status=False, keep_alive_s=600) for bundle in bundles]
came = {}
def note(client):
    came[client.client_id] = time.time(), client._connection.failures_in_a_row
for client in clients:
    client.on_state(lambda state, client=client: note(client) if state == "connected" else None)
    client.start()
def serve(until):
    while time.time() < until and not (came and len(came) == count):
        for client in clients:
            client.poll()
        time.sleep(0.01)
serve(time.time() + 120)
print(json.dumps(len(came)), flush=True)
came.clear()
sys.stdin.readline()
serve(time.time() + 200)
print(json.dumps(list(came.values())), flush=True)
"""

RECONNECTS = """
import sys
from securemqtt import Client
bundle, count, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"
client = Client(bundle, status=False)
client.connect()
for _ in range(count):
    client.disconnect()
    if not resume:
        client = Client(bundle, status=False)
    client.connect()
client.disconnect()
"""


def real_fleet(everything: Setting) -> list[tuple[float, float]]:
    """Kill the broker under a thousand clients, start it again; return in how many seconds each was
    back, and its bound when the broker was.
    """
    bundles = [
        str(everything.bundle(f"fleet-{n}", der=False)) for n in range(_PROCESSES * _PER_PROCESS)
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENTS, *bundles[n::_PROCESSES]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(_PROCESSES)
    ]
    try:
        there = sum(json.loads(_line(process)) for process in processes)
        if there != _PROCESSES * _PER_PROCESS:
            raise RuntimeError(f"only {there} clients connected")
        everything.broker.kill()
        for process in processes:
            _tell(process)
        time.sleep(_REAL_AWAY_S)  # the outage itself
        everything.broker.start()
        back = time.time()
        came = [pair for process in processes for pair in json.loads(_line(process))]
        return sorted((moment - back, bound_s(failures)) for moment, failures in came)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def bound_s(failures: int) -> float:
    """Return what the delay is drawn up to, with the shipped code, after so many failures one after
    another.
    """
    return next_delay(lambda low, high: high, failures - 1)[0] / 1000 if failures else 0


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout else ""


def _tell(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        process.stdin.write("go\n")
        process.stdin.flush()


def broker_cpu_ms(everything: Setting, bundle: str, kind: str) -> float:
    """Return the broker's CPU per reconnect in ms."""
    before = _cpu_s(everything)
    subprocess.run(
        [sys.executable, "-c", RECONNECTS, bundle, str(_RECONNECTS), kind], check=True, timeout=120
    )
    return (_cpu_s(everything) - before) * 1000 / _RECONNECTS


def _cpu_s(everything: Setting) -> float:
    fields = open(f"/proc/{everything.broker.pid}/stat").read().rpartition(")")[2].split()  # noqa: SIM115, PTH123
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plot(path: str, jitter: Counter[int], none: Counter[int], real: list[float]) -> None:
    """Draw the curves as SVG; needs matplotlib, which is no part of the set-up."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    seconds = range(130)
    left.semilogy(
        seconds,
        [none[s] or 0.5 for s in seconds],
        label="no jitter",
        color="tab:red",
        drawstyle="steps-post",
    )
    left.semilogy(
        seconds,
        [jitter[s] or 0.5 for s in seconds],
        label="full jitter, as shipped",
        color="tab:blue",
        drawstyle="steps-post",
    )
    left.set(
        title=f"{_FLEET:,} clients simulated, broker away {_AWAY_S} s",
        xlabel="s after its return",
        ylabel="connections per second",
    )
    left.legend()
    counts = Counter(int(moment) for moment in real)
    right.bar(range(max(counts) + 1), [counts[s] for s in range(max(counts) + 1)], width=1.0)
    right.set(
        title=f"{len(real):,} real clients, broker away {_REAL_AWAY_S} s",
        xlabel="s after its return",
        ylabel="connections per second",
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plot", metavar="SVG", help="draw the curves (needs matplotlib)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    jitter = Counter(arrivals(random.Random(args.seed).randint, _FLEET, _AWAY_S))
    # Without jitter one is as the other.
    none = Counter(
        {
            second: count * _FLEET
            for second, count in arrivals(lambda low, high: high, 1, _AWAY_S).items()
        }
    )
    print(
        f"simulated: peak {max(jitter.values()):,} connections per second with full jitter, "
        f"{max(none.values()):,} without"
    )
    with setting() as everything:
        bundle = str(everything.bundle("reconnects", der=False))
        full = broker_cpu_ms(everything, bundle, "full")
        resumed = broker_cpu_ms(everything, bundle, "resume")
        print(
            f"broker's CPU per reconnect: {full:.2f} ms with full handshakes, {resumed:.2f} ms "
            f"resumed: {resumed / full:.2f} of it"
        )
        real = real_fleet(everything)
    times = [moment for moment, _ in real]
    peak = max(Counter(int(moment) for moment in times).values())
    half = times[len(times) // 2]
    print(
        f"real: {len(real)} clients back, half of them after {half:.1f} s, all after "
        f"{times[-1]:.1f} s; peak {peak} per second"
    )
    bounds = sorted(bound for _, bound in real)
    within = sum(moment <= bound for moment, bound in real) / len(real)
    print(
        f"real: their bounds were {bounds[0]:.0f} to {bounds[-1]:.0f} s; {within:.1%} of them "
        f"were back within their own"
    )
    if args.plot:
        plot(args.plot, jitter, none, times)
    return 0


if __name__ == "__main__":
    sys.exit(main())
