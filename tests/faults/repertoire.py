"""The faults: each is a generator that brings the fault about, waits until it has bitten, yields,
and lifts it when it is resumed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from faults.hostility import (
    FLOOD,
    LARGEST,
    UNASKED,
    UNAVAILABLE,
    answer_pings,
    garbage,
    stream,
)
from faults.rig import (
    ASYNCIO,
    CONNECT_S,
    KEEP_ALIVE_S,
    NOWHERE,
    PACKET_BYTES,
    PATIENCE_S,
    RESOLVER_S,
    WINDOW,
    Kit,
    Scene,
    Sender,
    is_board,
)
from securemqtt_tools.simboard.clock import find_libfaketime
from support.brokers.servers import Serve, after, broker_context, tls_server
from support.network.net import wait_until
from support.network.proxy import Proxy, Records
from support.packets import ACCEPTED
from support.speed import slowness

Act = Callable[[Scene], Iterator[None]]
# What a slow network takes for a connection: TCP, up to two round trips of TLS and one of MQTT,
# then the message, at a second each.
SLOW_S = 6.0
SLOW_CONNECT_S = 19 + slowness()
# Some 5 kB, each byte of which a proxy passes on by itself, beside other work.
TRICKLE_S = 15 * slowness()
FIGHT_S = 5.0
# Ten attempts by each of two would already be twice what back-off makes likely in that time;
# without it there would be hundreds.
FIGHT_ATTEMPTS = 20
# As a Pico W has it, twice as large since objects take twice the room on 64 bits.
HEAP = "heapsize=320k"
# Of some 100 bytes each: enough for a program to run, not for the library.
LEFT_PIECES = 20
# The pause of a client that had not even room for its error.
EXHAUSTED_S = 10.0
# A handler takes longer than a broker waits for a sign of life: Mosquitto looks each 5 s.
SLOW_HANDLER_S = KEEP_ALIVE_S * 1.5 + 6.5
# Of a burst: messages with QoS 0, how long the handler takes for each, and the commands behind it,
# a window of which is more than a board's inbox holds.
BURST, PACE_MS, BURST_COMMANDS, BURST_BYTES = 1500, 5, 40, 1000
RAISES = 3
POISON_BYTES = PACKET_BYTES + PACKET_BYTES // 4
# What lies behind a message at which the broker hangs up arrives within so long.
BEHIND_S = 60.0
# What is in flight has so long before a client connects anew for what its inbox had no room for.
CATCH_UP_S = 2.0
STRIKES = 120
COMMANDS_S = 0.2
_NAME = "broker.test"
# How long a slow name server takes: the resolver waits for it, but not much longer.
SLOW_NAMES_S = 2.0
_HANDSHAKE, _DATA = 22, 23
# In TLS 1.3: header, hash, type, tag. CONNACK has four bytes and what TLS adds: 1.3, or 1.2 with
# ChaCha20-Poly1305, or with AES-GCM.
_FINISHED_BYTES = (4 + 32 + 1 + 16, 4 + 48 + 1 + 16)
_CONNACK_BYTES = (4 + 1 + 16, 4 + 16, 4 + 8 + 16)


@dataclass(frozen=True)
class Fault:
    """A fault, and what its bound is made of."""

    act: Act
    hanging_s: float = 0.0
    """How long an attempt that is under way when the fault is lifted can take before it fails."""
    drag_s: float = 0.0
    """What the fault, where it lasts, adds to the time of a connection."""
    noticed: bool = False
    """Whether the device notices by silence alone, and so within 1.5 × the keep-alive."""
    options: dict[str, object] = field(default_factory=dict)
    kit: Callable[[Path], Kit] = lambda directory: Kit()
    """What is special about the device, given its own directory."""
    alone: bool = False
    """Whether it needs an environment, or a device, that the soak has not."""
    names: bool = False
    """Whether it needs a name server of its own, which not every machine allows."""
    board: bool = False
    """Whether only a board can suffer it: MicroPython."""
    computer: bool = False
    """Whether only a computer can suffer it: CPython."""
    interrupts: bool = False
    """Whether it publishes where nothing can be awaited."""
    commands_s: float | None = None
    """How often the device is sent a command in a trial; the soak sends some in any case."""
    within_s: float | None = None
    """The bound, where it does not follow from the back-off."""
    program: bool = False
    """Whether it is the program's own: then the network may break as well."""
    repeats: bool = False
    """Whether commands may be handled twice, since the device is told of a new session, or the
    broker of an old state.
    """
    forgets: bool = False
    """Whether the broker may lose commands that it has acknowledged."""


# The broker


def _let_in_again(scene: Scene) -> None:
    scene.ground.broker.start()
    scene.ground.observer.await_ready()
    scene.proxy.target_port = scene.ground.broker.port
    scene.lift()


def broker_down(scene: Scene, end: Callable[[], None], forget: bool = False) -> Iterator[None]:
    scene.proxy.target_port = NOWHERE
    scene.ground.observer.ready.clear()
    if scene.commander is not None:
        scene.commander.settle()
    end()
    if forget:
        scene.ground.forget()
    scene.await_loss()
    yield
    _let_in_again(scene)


def killed(scene: Scene) -> Iterator[None]:
    yield from broker_down(scene, scene.ground.broker.kill)


def killed_and_emptied(scene: Scene) -> Iterator[None]:
    yield from broker_down(scene, scene.ground.broker.kill, forget=True)


def stopped(scene: Scene) -> Iterator[None]:
    yield from broker_down(scene, scene.ground.broker.stop)


# The connection


def reset(scene: Scene) -> Iterator[None]:
    scene.proxy.reset()
    yield


def half_closed_down(scene: Scene) -> Iterator[None]:
    scene.proxy.down.hold()
    scene.proxy.half_close()
    scene.await_loss()
    yield
    scene.proxy.reset()
    scene.proxy.down.release()


def half_closed_up(scene: Scene) -> Iterator[None]:
    scene.proxy.up.hold()
    scene.proxy.half_close_up()
    scene.await_loss()
    yield
    scene.proxy.reset()
    scene.proxy.up.release()


def black_hole(up: bool, down: bool, after: int = 0) -> Act:
    def act(scene: Scene) -> Iterator[None]:
        directions = [scene.proxy.up] * up + [scene.proxy.down] * down
        for direction in directions:
            direction.hold(after)
        scene.await_loss()
        yield
        for direction in directions:
            direction.release()

    return act


# In the handshake, and after it


def second(records: Records) -> bool:
    """Choose what follows the first record: ClientHello or ServerHello."""
    return len(records) == 2


def connect(records: Records) -> bool:
    """Choose CONNECT, the first record after Finished: encrypted, the latter is known by its length
    in TLS 1.3, by its type in 1.2.
    """
    if len(records) < 2:
        return False
    (before, before_bytes), (kind, _) = records[-2:]
    return kind == _DATA and (before == _HANDSHAKE or before_bytes in _FINISHED_BYTES)


def connack(records: Records) -> bool:
    """Choose CONNACK: no other record of the broker's is as short."""
    return records[-1][0] == _DATA and records[-1][1] in _CONNACK_BYTES


def hole(up: bool, choose: Callable[[Records], bool] | None = None) -> Act:
    """Have every new connection end in a black hole where the record is that is chosen; at its
    first byte without.
    """

    def act(scene: Scene) -> Iterator[None]:
        direction = scene.proxy.up if up else scene.proxy.down
        if choose:
            direction.hold_at(choose)
        else:
            direction.hold()
        scene.fail(2, "TimedOut")
        assert direction.caught or not choose
        yield
        direction.release()

    return act


def connack_lost(scene: Scene) -> Iterator[None]:
    accepted = _accepted(scene)
    losing = hole(False, connack)(scene)
    next(losing)
    assert _accepted(scene) > accepted, "the broker has not accepted what it was to accept"
    yield
    next(losing, None)


def _accepted(scene: Scene) -> int:
    """Return how often the broker has accepted the device."""
    return len(
        re.findall(
            rf"New client connected from \S+ as {scene.device} ",
            scene.ground.broker.log.read_text(),
        )
    )


def hole_before_puback(scene: Scene) -> Iterator[None]:
    scene.proxy.down.hold()
    arrived = partial(scene.ground.observer.latest, scene.sender.topic)
    wait_until(
        lambda: arrived() + 1 - scene.report()["confirmed"] >= 5,
        PATIENCE_S,
        "messages that arrived without an acknowledgement",
    )
    scene.proxy.reset()
    scene.await_loss()
    yield
    scene.proxy.down.release()


def connect_slowly(scene: Scene, least_s: float) -> None:
    """Have the device connect anew, which takes this long at least, or the fault is none."""
    began = time.monotonic()
    scene.await_connection()
    assert time.monotonic() - began >= least_s, "the fault did not slow down the connection"


def latency(scene: Scene) -> Iterator[None]:
    scene.proxy.up.delay_s = scene.proxy.down.delay_s = 0.5
    scene.await_more(5)
    yield
    connect_slowly(scene, 1.0)
    scene.await_more(5)
    scene.proxy.up.delay_s = scene.proxy.down.delay_s = 0.0


def trickle(scene: Scene) -> Iterator[None]:
    for direction in (scene.proxy.up, scene.proxy.down):
        direction.piece_bytes, direction.pause_s = 1, 0.0003
    scene.await_more(5)
    yield
    connect_slowly(scene, 0.3)
    scene.await_more(5)
    for direction in (scene.proxy.up, scene.proxy.down):
        direction.piece_bytes, direction.pause_s = 0, 0.0


# The broker's manners


def hostile(serve: Serve, error: str) -> Act:
    """Put the device before a broker that it cannot stay with."""

    def act(scene: Scene) -> Iterator[None]:
        with _in_place(scene, serve):
            scene.fail(2, error)
            yield
            _put_back(scene)

    return act


def odd(serve: Serve, sent_bytes: int) -> Act:
    """Put the device before a broker that sends so much and that it stays with; it acknowledges
    nothing that was published.
    """

    def act(scene: Scene) -> Iterator[None]:
        with _in_place(scene, serve):
            passed_bytes = scene.proxy.down.passed_bytes
            scene.await_connection()
            before = scene.report()
            wait_until(
                lambda: scene.proxy.down.passed_bytes >= passed_bytes + sent_bytes,
                PATIENCE_S,
                "what the broker sends",
            )
            wait_until(
                lambda: scene.report()["published"] > before["published"] + WINDOW,
                PATIENCE_S,
                "a window full of messages",
            )
            after = scene.report()
            assert after["connected"] and after["connects"] == before["connects"], (
                "the connection was given up"
            )
            assert after["acknowledged"] == before["acknowledged"], (
                "what nobody acknowledged counts as acknowledged"
            )
            yield
            _put_back(scene)

    return act


@contextmanager
def _in_place(scene: Scene, serve: Serve) -> Iterator[None]:
    with tls_server(
        broker_context(scene.directory / "hostile", scene.ground.authority), serve
    ) as port:
        scene.proxy.target_port = port
        yield


def _put_back(scene: Scene) -> None:
    scene.proxy.target_port = scene.ground.broker.port
    scene.proxy.reset()


# Names: nss_wrapper has the C library read another file in place of /etc/hosts


def find_nss_wrapper() -> Path | None:
    """Return its path, None where it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/libnss_wrapper.so"))), None)


def hosts_kit(directory: Path) -> Kit:
    directory.mkdir(parents=True)
    _point(directory, "127.0.0.1")
    return Kit(
        host=_NAME,
        environment={
            "LD_PRELOAD": str(find_nss_wrapper()),
            "NSS_WRAPPER_HOSTS": str(directory / "hosts"),
        },
    )


def _point(directory: Path, address: str | None) -> None:
    """Set the address of the broker's name, or none."""
    hosts = directory / "hosts"
    later = int(hosts.stat().st_mtime) + 2 if hosts.exists() else int(time.time())
    new = directory / "hosts.new"
    new.write_text(f"{address} {_NAME}\n" if address else "")
    os.utime(new, (later, later))  # what changes within a second would not be noticed
    new.replace(hosts)


def name_gone(scene: Scene) -> Iterator[None]:
    _point(scene.directory, None)
    scene.fail(3, "NameNotResolved")
    yield
    _point(scene.directory, "127.0.0.1")


def names_kit(directory: Path) -> Kit:
    return Kit(host=_NAME, name_server=True)


def names_late(scene: Scene) -> Iterator[None]:
    scene.names.delay_s = SLOW_NAMES_S
    asked = scene.names.asked
    yield
    connect_slowly(scene, SLOW_NAMES_S)
    assert scene.names.asked > asked
    scene.await_more(5)
    scene.names.delay_s = 0.0


def names_silent(scene: Scene) -> Iterator[None]:
    scene.names.delay_s = None
    scene.fail(3, "NameNotResolved")
    yield
    scene.names.delay_s = 0.0


def name_moved(scene: Scene) -> Iterator[None]:
    scene.proxy.target_port = NOWHERE
    scene.fail(2)
    with Proxy(scene.ground.broker.port, ("127.0.0.2", scene.proxy.port)) as moved:
        yield from _moving(scene, moved)
    scene.proxy.target_port = scene.ground.broker.port
    _point(scene.directory, "127.0.0.1")


def _moving(scene: Scene, moved: Proxy) -> Iterator[None]:
    yield
    _point(scene.directory, "127.0.0.2")
    scene.lift()
    wait_until(lambda: moved.accepted, PATIENCE_S, "a connection to the new address")
    scene.await_more(5)


# The clock: libfaketime reads it from a file


def clock_kit(directory: Path) -> Kit:
    directory.mkdir(parents=True)
    _set_clock(directory, 0)
    environment = {
        "LD_PRELOAD": str(find_libfaketime()),
        "FAKETIME_TIMESTAMP_FILE": str(directory / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    return Kit(environment=environment)


def _set_clock(directory: Path, shift_s: int) -> None:
    new = directory / "clock.new"
    new.write_text(f"{shift_s:+d}\n")
    new.replace(directory / "clock")


def _clock_shows(scene: Scene, shift_s: int) -> bool:
    return abs(float(scene.report()["clock_s"]) - time.time() - shift_s) < 600


def clock_jumps(scene: Scene) -> Iterator[None]:
    # Certificates begin an hour before they are made: further back, a refusal would be right.
    for shift_s in (30 * 86_400, -3_000, 86_400, 0, -3_000):
        _set_clock(scene.directory, shift_s)
        wait_until(
            partial(_clock_shows, scene, shift_s), PATIENCE_S, f"a clock that is {shift_s} s ahead"
        )
        scene.await_more(5)
    assert scene.report()["connects"] == 1, "a clock that jumps must not cost the connection"
    scene.proxy.reset()
    scene.await_loss()
    yield
    _set_clock(scene.directory, 86_400)


# Two with one id


def twins(scene: Scene) -> Iterator[None]:
    twin = scene.enter_sender("data/b")
    for sender in (scene.sender, twin):
        wait_until(
            lambda sender=sender: sender.ask()["failures"], PATIENCE_S, "one that was pushed out"
        )  # type: ignore[misc]
    before, began = _attempts(scene.sender, twin), time.monotonic()
    wait_until(
        lambda: time.monotonic() >= began + FIGHT_S,
        2 * FIGHT_S,
        "the time over which they are counted",
    )
    scene.attempts = _attempts(scene.sender, twin) - before
    tally = scene.tally(twin)
    assert tally.lost == 0 and tally.in_order, tally
    yield


def _attempts(*senders: Sender) -> int:
    """Return how often devices have connected, or tried to and failed, or lost a connection."""
    reports = [sender.ask() for sender in senders]
    return sum(int(report["connects"]) + int(report["failures"]) for report in reports)


# Memory


def hoarder_kit(directory: Path) -> Kit:
    return Kit("hoarder.py", flags=("-X", HEAP))


def memory_gone(scene: Scene) -> Iterator[None]:
    scene.sender.ask(f"hoard {LEFT_PIECES}")

    def exhausted() -> bool:
        report = scene.report()
        if report["connected"]:
            # An attempt that comes at once, in what the connection before it has let go of, can
            # still go through.
            scene.proxy.reset()
        return report["error"] == "OutOfMemory" and not report["connected"]

    wait_until(exhausted, PATIENCE_S, "an attempt for which there is no memory")
    wait_until(
        lambda: scene.report()["refused"], PATIENCE_S, "a message for which there is no memory"
    )
    yield
    scene.sender.ask("let go")


# The program


def slow_handler(scene: Scene) -> Iterator[None]:
    before = scene.sender.ask(f"slow {SLOW_HANDLER_S}")
    wait_until(
        lambda: scene.report()["slowed"] > before["slowed"],
        PATIENCE_S,
        "a handler that took its time",
    )
    yield
    if scene.interpreter != "cpython":  # which has a thread; others were deaf meanwhile
        wait_until(
            lambda: scene.report()["connects"] > before["connects"],
            PATIENCE_S,
            "another connection",
        )


def raising_handler(scene: Scene) -> Iterator[None]:
    told = scene.sender.ask(f"raise {RAISES}")["told"]
    wait_until(
        lambda: scene.report()["told"] >= told + RAISES, PATIENCE_S, "what handlers have raised"
    )
    yield


def burst(scene: Scene) -> Iterator[None]:
    assert scene.commander is not None
    zeros = scene.sender.ask(f"pace {PACE_MS}")["zeros"]
    scene.commander.burst(BURST, BURST_COMMANDS, BURST_BYTES)
    wait_until(lambda: scene.report()["zeros"] > zeros, PATIENCE_S, "the burst")
    yield


def poison(scene: Scene) -> Iterator[None]:
    failures = scene.sender.ask(f"poison {POISON_BYTES}")["failures"]
    wait_until(lambda: scene.report()["failures"] > failures, PATIENCE_S, "a broker that hangs up")
    yield


def fork(scene: Scene) -> Iterator[None]:
    status = scene.sender.ask("fork")["child"]
    assert status == 0, f"a forked child ended with {status}"
    yield


def callbacks(scene: Scene) -> Iterator[None]:
    before = scene.report()["beside"]  # the answer to the next one may count some already
    scene.sender.ask(f"callbacks {STRIKES}")

    def struck() -> bool:
        now = scene.report()["beside"]
        return bool(now) and all(now[one] >= before.get(one, 0) + STRIKES for one in now)

    wait_until(struck, PATIENCE_S, "messages from callbacks")
    yield


FAULTS = {
    "broker killed, with what it had saved": Fault(killed, repeats=True, forgets=True),
    "broker killed, its database gone": Fault(killed_and_emptied, repeats=True, forgets=True),
    "broker restarted in order": Fault(stopped),
    "connection reset": Fault(reset),
    "half-closed by the broker": Fault(half_closed_down, hanging_s=CONNECT_S),
    "half-closed towards the broker": Fault(half_closed_up, hanging_s=CONNECT_S),
    "black hole towards the broker": Fault(
        black_hole(True, False), hanging_s=CONNECT_S, noticed=True
    ),
    "black hole towards the device": Fault(
        black_hole(False, True), hanging_s=CONNECT_S, noticed=True
    ),
    "black hole in both directions": Fault(
        black_hole(True, True), hanging_s=CONNECT_S, noticed=True
    ),
    "black hole in the middle of PUBLISH": Fault(
        black_hole(True, False, 7), hanging_s=CONNECT_S, noticed=True
    ),
    "black hole in the middle of PUBACK": Fault(
        black_hole(False, True, 7), hanging_s=CONNECT_S, noticed=True
    ),
    "handshake: ClientHello lost": Fault(hole(True), hanging_s=CONNECT_S),
    "handshake: ServerHello lost": Fault(hole(False), hanging_s=CONNECT_S),
    "handshake: the device's second flight lost": Fault(hole(True, second), hanging_s=CONNECT_S),
    "handshake: the broker's flight cut off after ServerHello": Fault(
        hole(False, second), hanging_s=CONNECT_S
    ),
    "CONNECT lost": Fault(hole(True, connect), hanging_s=CONNECT_S),
    "CONNACK lost, the session made": Fault(connack_lost, hanging_s=CONNECT_S),
    "PUBACK lost": Fault(hole_before_puback, hanging_s=CONNECT_S),
    "latency of 500 ms each way": Fault(
        latency, drag_s=SLOW_S, options={"connect_timeout_s": SLOW_CONNECT_S}
    ),
    "one byte at a time": Fault(
        trickle, drag_s=TRICKLE_S, options={"connect_timeout_s": SLOW_CONNECT_S}
    ),
    "broker refuses": Fault(hostile(after(UNAVAILABLE), "BrokerFull"), hanging_s=CONNECT_S),
    "broker sends garbage": Fault(
        hostile(after(ACCEPTED, garbage), "MalformedPacket"), hanging_s=CONNECT_S, repeats=True
    ),
    "broker sends a length of 256 MB": Fault(
        hostile(after(ACCEPTED + LARGEST), "TimedOut"), hanging_s=CONNECT_S, repeats=True
    ),
    "broker floods": Fault(
        odd(after(ACCEPTED, stream(FLOOD, times=200)), 200 * len(FLOOD)), repeats=True
    ),
    "broker acknowledges what was never sent": Fault(
        odd(after(ACCEPTED, stream(UNASKED, times=500)), 500 * len(UNASKED)), repeats=True
    ),
    "broker never acknowledges": Fault(odd(after(ACCEPTED, answer_pings), 0), repeats=True),
    "name does not resolve": Fault(name_gone, kit=hosts_kit, alone=True),
    "address behind the name changes": Fault(name_moved, kit=hosts_kit, alone=True),
    "name server slow, 2 s": Fault(
        names_late, drag_s=SLOW_NAMES_S, kit=names_kit, alone=True, names=True
    ),
    "name server silent": Fault(
        names_silent, hanging_s=RESOLVER_S, kit=names_kit, alone=True, names=True
    ),
    "clock jumps forward and back": Fault(clock_jumps, kit=clock_kit, alone=True),
    "two devices with one id": Fault(twins, alone=True),
    "memory exhausted on the board": Fault(
        memory_gone, hanging_s=EXHAUSTED_S, kit=hoarder_kit, alone=True, board=True
    ),
    "a handler that takes 14 s": Fault(slow_handler, commands_s=COMMANDS_S, program=True),
    "a handler that raises": Fault(raising_handler, commands_s=COMMANDS_S, program=True),
    "a burst that a slow handler cannot follow": Fault(
        burst, drag_s=CATCH_UP_S, commands_s=COMMANDS_S, program=True
    ),
    "a message at which the broker hangs up": Fault(
        poison, within_s=BEHIND_S, commands_s=COMMANDS_S, program=True
    ),
    "a fork that publishes": Fault(
        fork, commands_s=COMMANDS_S, program=True, computer=True, interrupts=True
    ),
    "publishes from callbacks": Fault(
        callbacks, commands_s=COMMANDS_S, program=True, interrupts=True
    ),
}


def suffered_by(interpreter: str, *, names: bool) -> list[str]:
    """Return the names of the faults that this interpreter can suffer: those that take a name
    server, or all others.
    """
    return [
        name
        for name, fault in FAULTS.items()
        if fault.names == names
        and not (fault.board and not is_board(interpreter))
        and not (fault.computer and is_board(interpreter))
        and not (fault.interrupts and interpreter in ASYNCIO)
    ]
