"""The faults: each is a generator that brings the fault about, waits until it has bitten, yields, and lifts it when it is resumed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from faults.rig import CONNECT_S, NOWHERE, PATIENCE_S, Scene
from securemqtt_tools.simboard.clock import find_libfaketime
from support.net import wait_until
from support.proxy import Proxy
from support.scripted import CONNECT, ScriptedBroker

Act = Callable[[Scene], Iterator[None]]
# What a slow network takes for a connection: TCP, up to two round trips of TLS and one of MQTT, then the message, at a second each.
SLOW_S = 6.0
SLOW_CONNECT_S = 20
FIGHT_S = 5.0
# Ten attempts by each of two would already be twice what back-off makes likely in that time; without it there would be hundreds.
FIGHT_ATTEMPTS = 20
_NAME = "broker.test"


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
    host: str = "localhost"
    environment: Callable[[Path], dict[str, str]] | None = None
    """What the device's process needs in its environment, given a directory of its own."""
    alone: bool = False
    """Whether it needs an environment, or a device, that the soak has not."""


# The broker


def _let_in_again(scene: Scene) -> None:
    scene.ground.broker.start()
    scene.ground.observer.await_ready()
    scene.proxy.target_port = scene.ground.broker.port
    scene.lift()


def broker_down(scene: Scene, end: Callable[[], None], forget: bool = False) -> Iterator[None]:
    scene.proxy.target_port = NOWHERE
    scene.ground.observer.ready.clear()
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


def hole_in_handshake(scene: Scene) -> Iterator[None]:
    scene.proxy.down.hold()  # ServerHello never comes
    scene.proxy.reset()
    scene.await_failures(2)
    yield
    scene.proxy.down.release()


def hole_before_connack(scene: Scene) -> Iterator[None]:
    with ScriptedBroker(scene.directory, scene.ground.authority) as silent:
        scene.proxy.target_port = silent.port
        scene.proxy.reset()
        with silent.connection() as connection:
            connection.expect(CONNECT)
            scene.await_failures(1)
    yield
    scene.proxy.target_port = scene.ground.broker.port


def hole_before_puback(scene: Scene) -> Iterator[None]:
    scene.proxy.down.hold()
    acknowledged = scene.report()["acknowledged"]
    scene.await_more(5)
    assert scene.report()["acknowledged"] <= acknowledged + 1
    scene.proxy.reset()
    scene.await_loss()
    yield
    scene.proxy.down.release()


def latency(scene: Scene) -> Iterator[None]:
    scene.proxy.up.delay_s = scene.proxy.down.delay_s = 0.5
    scene.await_more(5)
    yield from reset(scene)
    scene.await_more(5)
    scene.proxy.up.delay_s = scene.proxy.down.delay_s = 0.0


def trickle(scene: Scene) -> Iterator[None]:
    for direction in (scene.proxy.up, scene.proxy.down):
        direction.piece_bytes, direction.pause_s = 1, 0.0003
    scene.await_more(5)
    yield from reset(scene)
    scene.await_more(5)
    for direction in (scene.proxy.up, scene.proxy.down):
        direction.piece_bytes, direction.pause_s = 0, 0.0


# Names: nss_wrapper has the C library read another file in place of /etc/hosts


def find_nss_wrapper() -> Path | None:
    """Give its path, None where it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/libnss_wrapper.so"))), None)


def hosts_environment(directory: Path) -> dict[str, str]:
    directory.mkdir(parents=True)
    _point(directory, "127.0.0.1")
    return {"LD_PRELOAD": str(find_nss_wrapper()), "NSS_WRAPPER_HOSTS": str(directory / "hosts")}


def _point(directory: Path, address: str | None) -> None:
    """Give the broker's name an address, or none."""
    hosts = directory / "hosts"
    later = int(hosts.stat().st_mtime) + 2 if hosts.exists() else int(time.time())
    new = directory / "hosts.new"
    new.write_text(f"{address} {_NAME}\n" if address else "")
    os.utime(new, (later, later))  # what changes within a second would not be noticed
    new.replace(hosts)


def name_gone(scene: Scene) -> Iterator[None]:
    _point(scene.directory, None)
    scene.proxy.reset()
    scene.await_failures(3)
    assert scene.report()["error"] == "NameNotResolved"
    yield
    _point(scene.directory, "127.0.0.1")


def name_moved(scene: Scene) -> Iterator[None]:
    scene.proxy.target_port = NOWHERE
    scene.proxy.reset()
    scene.await_failures(2)
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


def clock_environment(directory: Path) -> dict[str, str]:
    directory.mkdir(parents=True)
    _set_clock(directory, 0)
    return {
        "LD_PRELOAD": str(find_libfaketime()),
        "FAKETIME_TIMESTAMP_FILE": str(directory / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def _set_clock(directory: Path, shift_s: int) -> None:
    new = directory / "clock.new"
    new.write_text(f"{shift_s:+d}\n")
    new.replace(directory / "clock")


def clock_jumps(scene: Scene) -> Iterator[None]:
    # Certificates begin an hour before they are made: further back, a refusal would be right.
    for shift_s in (30 * 86_400, -3_000, 86_400, 0, -3_000):
        _set_clock(scene.directory, shift_s)
        scene.await_more(5)
    assert scene.report()["connects"] == 1, "a clock that jumps must not cost the connection"
    scene.proxy.reset()
    scene.await_loss()
    yield
    _set_clock(scene.directory, 86_400)


# Two with one id


def twins(scene: Scene) -> Iterator[None]:
    twin = scene.enter_sender("data/b")
    began = time.monotonic()
    while time.monotonic() - began < FIGHT_S:
        time.sleep(0.1)
    for sender in (scene.sender, twin):
        report = sender.ask()
        scene.attempts += report["connects"] + report["failures"]
    tally = scene.tally(twin)
    assert tally.lost == 0 and tally.in_order, tally
    yield


FAULTS = {
    "broker killed, with what it had saved": Fault(killed),
    "broker killed, its database gone": Fault(killed_and_emptied),
    "broker restarted in order": Fault(stopped),
    "connection reset": Fault(reset),
    "half-closed by the broker": Fault(half_closed_down, hanging_s=CONNECT_S),
    "half-closed towards the broker": Fault(half_closed_up, hanging_s=CONNECT_S),
    "black hole towards the broker": Fault(black_hole(True, False), hanging_s=CONNECT_S, noticed=True),
    "black hole towards the device": Fault(black_hole(False, True), hanging_s=CONNECT_S, noticed=True),
    "black hole in both directions": Fault(black_hole(True, True), hanging_s=CONNECT_S, noticed=True),
    "black hole in the middle of a packet": Fault(black_hole(True, True, 7), hanging_s=CONNECT_S, noticed=True),
    "black hole before ServerHello": Fault(hole_in_handshake, hanging_s=CONNECT_S),
    "black hole between CONNECT and CONNACK": Fault(hole_before_connack),
    "lost between PUBLISH and PUBACK": Fault(hole_before_puback, hanging_s=CONNECT_S),
    "latency of 500 ms each way": Fault(latency, drag_s=SLOW_S, options={"connect_timeout_s": SLOW_CONNECT_S}),
    "one byte at a time": Fault(trickle, drag_s=SLOW_S, options={"connect_timeout_s": SLOW_CONNECT_S}),
    "name does not resolve": Fault(name_gone, host=_NAME, environment=hosts_environment, alone=True),
    "address behind the name changes": Fault(name_moved, host=_NAME, environment=hosts_environment, alone=True),
    "clock jumps forward and back": Fault(clock_jumps, environment=clock_environment, alone=True),
    "two devices with one id": Fault(twins, alone=True),
}
