"""A trial: a device publishes, a fault strikes and is lifted; how long it takes to recover, and
what arrives.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from faults.commands import Orders
from faults.repertoire import FAULTS, FIGHT_ATTEMPTS, Fault
from faults.rig import PATIENCE_S, SILENCE_S, Ground, Scene, Tally
from securemqtt_tools.pki import Authority
from support.network.net import wait_until
from support.speed import slowness, slowness_now

# A handshake, and a machine that does other things as well; on the reference machine.
_SLACK_S = 8
# Noticing takes no more than a look at the clock.
_NOTICE_SLACK_S = 5
_OWN_GROUND = ("broker killed", "broker restarted")
# What a machine with two cores bears without being late; on a slow one fewer, since attempts that
# end before their handshake does, for want of a processor, would come again and again.
_AT_A_TIME = max(2, int(14 / slowness()))
_numbers = itertools.count()


@dataclass(frozen=True)
class Result:
    """What a trial showed; `due_s` follows from how often attempts had failed when the fault was
    lifted.
    """

    recovered_s: float
    due_s: float
    noticed_s: float | None
    attempts: int
    tally: Tally
    orders: Orders | None = None
    """What became of commands, where there were some."""
    slowness: float = field(default_factory=slowness)

    @property
    def bound_s(self) -> float:
        """How long recovery may take."""
        return self.due_s + _SLACK_S * self.slowness

    @property
    def _notice_bound_s(self) -> float:
        return SILENCE_S + _NOTICE_SLACK_S * self.slowness

    def judged(self) -> Result:
        """Return the same, judged by the speed at which the machine works now if anything was late.
        To be called while whatever slows it down still does.
        """
        late = self.recovered_s > self.bound_s or (self.noticed_s or 0) > self._notice_bound_s
        return replace(self, slowness=slowness_now()) if late else self

    def complaints(self, noticed: bool) -> list[str]:
        """Say what is not as it must be; `noticed`: the device had to notice by silence alone."""
        found = []
        if self.tally.lost or not self.tally.in_order:
            found.append(f"{self.tally}: {self.tally.lost} lost")
        if self.orders is not None:
            found += self.orders.complaints()
        if self.recovered_s > self.bound_s:
            found.append(
                f"recovered after {self.recovered_s:.1f} s instead of at most {self.bound_s:.1f} s"
            )
        if noticed and (self.noticed_s is None or self.noticed_s > self._notice_bound_s):
            found.append(f"noticed after {self.noticed_s} s instead of {SILENCE_S} s")
        if self.attempts > FIGHT_ATTEMPTS:
            found.append(f"{self.attempts} attempts")
        return found


def undergo(scene: Scene, fault: Fault) -> Result:
    """Let a fault strike the scene's device, lift it, and wait for recovery."""
    acting = fault.act(scene)
    next(acting)
    report = scene.report()
    scene.lift()
    next(acting, None)
    topic, observer = scene.sender.topic, scene.ground.observer
    when = wait_until(
        lambda: observer.when_after(topic, report["published"], scene.lifted_s),
        2 * PATIENCE_S,
        f"recovery from {report}",
    )
    assert when is not None
    # An attempt that is under way may still fail, and the delay after it is drawn from 0 to
    # 2^failures s.
    due_s = fault.hanging_s + 2.0 ** report["failures"] + fault.drag_s
    if fault.within_s is not None:
        due_s = fault.within_s
    recovered_s = when - scene.lifted_s
    orders = scene.command_tally()
    return Result(
        recovered_s, due_s, scene.noticed_s, scene.attempts, scene.tally(), orders
    ).judged()


def run_all(
    authority: Authority, directory: Path, interpreter: str, names: list[str]
) -> dict[str, Result | BaseException]:
    """Run the trials of these faults, several at the same time, each on a device of its own; a
    broker that suffers is one of its own, too.
    """

    def run(name: str, ground: Ground, device: str) -> Result | BaseException:
        fault = FAULTS[name]
        try:
            kit = fault.kit(ground.directory / device)
            commands_s = fault.commands_s
            with Scene(ground, interpreter, device, fault.options, kit, commands_s) as scene:
                return undergo(scene, fault)
        except Exception as error:  # noqa: BLE001  (it is reported with the fault's name)
            return error

    with ExitStack() as stack, ThreadPoolExecutor(_AT_A_TIME) as pool:
        shared = stack.enter_context(Ground(authority, directory / "shared"))
        running = {}
        for number, name in enumerate(names):
            own = name.startswith(_OWN_GROUND)
            ground = (
                stack.enter_context(Ground(authority, directory / str(number))) if own else shared
            )
            running[name] = pool.submit(run, name, ground, f"fault-{next(_numbers)}")
        return {name: result.result() for name, result in running.items()}


def row(name: str, interpreter: str, result: Result) -> str:
    """Return a row of the table in docs/faults.md."""
    tally = result.tally
    cells = [
        name,
        interpreter,
        f"{result.bound_s:.0f}",
        f"{result.recovered_s:.1f}",
        tally.sent,
        tally.lost,
        tally.duplicates,
        "" if result.orders is None else result.orders.handled,
    ]
    return "| " + " | ".join(map(str, cells)) + " |\n"
