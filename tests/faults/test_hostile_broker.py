"""A broker with the right certificate, hostile or broken: the device ends in a clear error within
its deadline, and stays within its heap.

What it does on each connection is a function; a device of each interpreter meets each of them,
several at the same time.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faults.hostility import (
    FLOOD,
    LARGEST,
    UNASKED,
    garbage,
    stream,
    trickle,
)
from securemqtt_tools.pki import Authority
from support.brokers.servers import (
    Serve,
    after,
    broker_context,
    tcp_server,
    tls_server,
    until_gone,
)
from support.identities.bundles import write_bundle
from support.interpreters.micropython import micropython_command, micropython_environment
from support.packets import ACCEPTED, publish
from support.speed import seconds, slowness

DEVICE = Path(__file__).with_name("hostile_device.py")
CONNECT_S = 3.5 + slowness() / 2
KEEP_ALIVE_S = 5
# As a Pico W has it, twice as large since objects take twice the room on 64 bits.
HEAP = "heapsize=320k"
MAX_PACKET_BYTES = 4096
# A machine that does other things as well is late, but not by more than this.
SLACK_MS = 8000 * slowness()
RUN_S = seconds(90)
# A device ends by itself when it has what it is to get, or meets its error.
STAY_S = seconds(60)
_AT_A_TIME = 12


@dataclass(frozen=True)
class Attack:
    """What the broker does, and what must come of it: the error's class, and when, in ms after the
    start or after CONNACK.
    """

    serve: Serve
    error: str | None
    latest_ms: int
    earliest_ms: int = 0
    connected: bool = True
    received: tuple[int, ...] | None = None
    secured: bool = True
    """Whether the TLS handshake is done before `serve` is called."""


def slow_but_honest(connection: socket.socket) -> None:
    """Accept and send messages by the byte, in good time."""
    connection.recv(4096)
    trickle(
        connection,
        ACCEPTED
        + publish(b"a", b"x" * 40)
        + publish(b"c", b"z" * 20, 1)
        + publish(b"end", b"the end"),
    )
    until_gone(connection)


def endless_handshake(connection: socket.socket) -> None:
    """Begin a TLS record of 16 kB and send it by the byte."""
    connection.recv(4096)
    trickle(connection, b"\x16\x03\x03\x3f\xff\x02\0\x3f\xfb\x03\x03" + bytes(16000), 0.05)


def endless_packet(connection: socket.socket) -> None:
    """Accept, and send one packet by the byte, which keeps the connection alive."""
    connection.recv(4096)
    connection.sendall(ACCEPTED)
    trickle(connection, publish(b"t", bytes(4000)), 0.1)


KEPT_MS = KEEP_ALIVE_S * 1000
GONE_MS = KEPT_MS * 3 // 2
CONNECT_MS = CONNECT_S * 1000
# A second connection may be made to ask why, within 5 s.
ASKED_MS = CONNECT_MS + 5000

# Many times the heap, and no more than a machine gets through, one device beside the others, within
# a fraction of the 30 s that a packet may take: 8 MB on the reference machine.
HUGE_BYTES = 65536 * max(32, int(128 / slowness()))
# The beginning of a PUBLISH with a payload of that size.
HUGE = publish(b"t", bytes(HUGE_BYTES))[:-HUGE_BYTES]
ATTACKS = {
    "says nothing at all": Attack(
        until_gone, "TimedOut", CONNECT_MS, connected=False, secured=False
    ),
    "answers in plain text": Attack(
        after(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "NotTLS",
        CONNECT_MS,
        connected=False,
        secured=False,
    ),
    "answers the handshake by the byte for ever": Attack(
        endless_handshake, "TimedOut", CONNECT_MS, connected=False, secured=False
    ),
    "never sends CONNACK": Attack(until_gone, "TimedOut", CONNECT_MS, connected=False),
    "sends half a CONNACK": Attack(after(ACCEPTED[:3]), "TimedOut", CONNECT_MS, connected=False),
    "sends half a CONNACK and closes": Attack(
        after(ACCEPTED[:3], close=True), "ConnectionLost", ASKED_MS, connected=False
    ),
    "sends a CONNACK of 256 MB": Attack(
        after(b"\x20\xff\xff\xff\x7f"), "MalformedPacket", 1000, connected=False
    ),
    "sends a PUBLISH before CONNACK": Attack(
        after(publish(b"t", b"x")), "MalformedPacket", 1000, connected=False
    ),
    "sends noise before CONNACK": Attack(garbage, "MalformedPacket", 1000, connected=False),
    "refuses with a code of its own": Attack(
        after(b"\x20\x02\0\xfe"), "ProtocolRefused", 1000, connected=False
    ),
    "accepts twice": Attack(after(ACCEPTED + ACCEPTED), "MalformedPacket", 1000),
    "sends noise": Attack(after(ACCEPTED, garbage), "MalformedPacket", 1000),
    "sends a length of five bytes": Attack(
        after(ACCEPTED + b"\x30\xff\xff\xff\xff\x01"), "MalformedPacket", 1000
    ),
    "sends a topic longer than its packet": Attack(
        after(ACCEPTED + b"\x30\x05\xff\xffabc"), "MalformedPacket", 1000
    ),
    "sends a topic that is no text": Attack(
        after(ACCEPTED + publish(b"\xff\xfe", b"x")), "MalformedPacket", 1000
    ),
    "closes in the middle of a packet": Attack(
        after(ACCEPTED + publish(b"t", b"x" * 100)[:50], close=True), "ConnectionLost", 1000
    ),
    "falls silent": Attack(after(ACCEPTED), "TimedOut", GONE_MS, KEPT_MS),
    "falls silent in the middle of a packet": Attack(
        after(ACCEPTED + publish(b"t", b"x" * 100)[:50]), "TimedOut", GONE_MS, KEPT_MS
    ),
    "claims 256 MB and falls silent": Attack(
        after(ACCEPTED + LARGEST), "TimedOut", GONE_MS, KEPT_MS
    ),
    "sends many megabytes in one packet": Attack(
        after(ACCEPTED + HUGE, stream(bytes(65536), times=HUGE_BYTES // 65536)),
        None,
        0,
        received=(7,),
    ),
    "acknowledges what was never sent": Attack(
        after(ACCEPTED, stream(UNASKED, times=500)), None, 0, received=(7,)
    ),
    "floods with messages": Attack(
        after(ACCEPTED, stream(FLOOD, times=600)), None, 0, received=(7,)
    ),
    "is slow but honest": Attack(slow_but_honest, None, 0, received=(40, 20, 7)),
}
ENDLESS = {"sends a packet by the byte for ever": Attack(endless_packet, "TimedOut", 31000, 29000)}


class Laboratory:
    """Runs devices against attacks, as many at the same time as a small machine can bear."""

    def __init__(self, authority: Authority, directory: Path) -> None:
        self._authority = authority
        self._directory = directory
        self._context = broker_context(directory, authority)

    def run(
        self, attacks: dict[str, Attack], interpreters: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Have a device of each interpreter meet each attack; return what they report, by attack
        and interpreter.
        """
        meetings = [
            (f"{name}, {interpreter}", attack, interpreter)
            for name, attack in attacks.items()
            for interpreter in interpreters
        ]
        with ExitStack() as servers, ThreadPoolExecutor(_AT_A_TIME) as pool:
            reports = {}
            for name, attack, interpreter in meetings:
                broker = (
                    tls_server(self._context, attack.serve)
                    if attack.secured
                    else tcp_server(attack.serve)
                )
                port = servers.enter_context(broker)
                device = f"hostile-{port}"
                board = interpreter == "micropython"
                bundle = write_bundle(
                    self._directory / device, self._authority, device, port=port, board=board
                )
                reports[name] = pool.submit(self._meet, board, bundle, STAY_S)
            return {name: report.result() for name, report in reports.items()}

    def _meet(self, board: bool, bundle: Path, stay_s: float) -> dict[str, Any]:
        options = {
            "connect_timeout_s": CONNECT_S,
            "keep_alive_s": KEEP_ALIVE_S,
            "max_packet_bytes": MAX_PACKET_BYTES,
        }
        done = subprocess.run(
            [
                *(micropython_command("-X", HEAP) if board else [sys.executable]),
                str(DEVICE),
                str(bundle),
                json.dumps(options),
                str(stay_s),
            ],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
            env=micropython_environment() if board else None,
        )
        if done.returncode:
            return {"crash": done.stdout + done.stderr}
        report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return report


@pytest.fixture
def laboratory(authority: Authority, tmp_path: Path) -> Laboratory:
    return Laboratory(authority, tmp_path)


def complaints(attack: Attack, report: dict[str, Any]) -> Iterator[str]:
    """Say what of a report is not as it must be."""
    if "crash" in report:
        yield report["crash"]
        return
    if report["error"] != attack.error:
        yield f"ended in {report['error']} instead of {attack.error}"
    if not report["explained"]:
        yield "does not say the cause and the remedy"
    if report["connected"] != attack.connected:
        yield f"connected: {report['connected']}"
    if attack.error and not attack.earliest_ms <= report["after_ms"] <= attack.latest_ms + SLACK_MS:
        yield (
            f"ended after {report['after_ms']} ms instead of {attack.earliest_ms} to "
            f"{attack.latest_ms}"
        )
    if attack.received is not None and report["received"][-len(attack.received) :] != list(
        attack.received
    ):
        yield f"received messages of {report['received']} bytes"
    if report["longest_wait_ms"] > SLACK_MS:
        yield f"a wait of 100 ms took {report['longest_wait_ms']} ms"


def check(attacks: dict[str, Attack], reports: dict[str, dict[str, Any]]) -> None:
    """Fail with all that is not as it must be."""
    found = []
    for name, report in reports.items():
        attack = attacks[name.rpartition(", ")[0]]
        found += [
            f"a broker that {name}: {complaint}\n    {report}"
            for complaint in complaints(attack, report)
        ]
    assert not found, "\n" + "\n".join(found)
    assert len(reports) >= len(attacks)


@pytest.mark.parametrize("interpreter", ["cpython", "micropython"])
def test_a_device_ends_in_a_clear_error_within_its_deadline(
    laboratory: Laboratory, interpreter: str
) -> None:
    check(ATTACKS, laboratory.run(ATTACKS, [interpreter]))


def test_a_packet_that_trickles_for_ever_has_a_deadline_too(laboratory: Laboratory) -> None:
    check(ENDLESS, laboratory.run(ENDLESS, ["cpython", "micropython"]))
