"""Faults at random, on both interpreters, for a given time: `make soak`. Exit status 1 if anything
was lost, or handled twice.

Each device has a broker of its own, which suffers as well. With the same seed each device meets the
same faults in the same order.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    path
    for path in map(str, (ROOT / "tests", ROOT / "tools", ROOT / "lib"))
    if path not in sys.path
]

from faults.commands import Orders  # noqa: E402
from faults.repertoire import FAULTS, SLOW_CONNECT_S, suffered_by  # noqa: E402
from faults.rig import INTERPRETERS, Ground, Scene, Tally  # noqa: E402
from securemqtt_tools.pki import Authority  # noqa: E402
from support.requirements import find_program  # noqa: E402
from support.speed import seconds  # noqa: E402

# A fault lasts for so long after it has bitten, at most; then the device has so long in peace, at
# most.
_LASTS_S = 3.0
_PEACE_S = 3.0
# How often the device is sent a command.
_COMMANDS_S = 0.5
# A fault of the program's own does not keep the network from breaking: so often, at most.
_RESETS = 2
# After so many failures, a peace that is long enough for the back-off to start anew (it counts a
# connection as stable after 30 s).
_FAILURES = 3
_STABLE_S = 31.0
# A fault adds three failures at most, so the back-off ends at 2^6 s; one attempt more may hang, and
# fail.
_RECOVERY_S = seconds(200)
_MOST_MINUTES = 60 * 24 * 365
_EXAMPLE = """example:
  python tests/faults/soak.py --minutes 10 --seed 42
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a device's messages and commands."""

    interpreter: str
    tally: Tally
    orders: Orders
    poisons: int
    """Messages that the broker does not take."""
    parked: int
    """How many others were parked at some time."""

    @property
    def well(self) -> bool:
        """Whether all is as it must be."""
        return not self.tally.lost and self.tally.in_order and not self.orders.complaints()

    def __str__(self) -> str:
        tally, orders = self.tally, self.orders
        rate = self.parked / max(1, tally.sent)
        return (
            f"{self.interpreter}: sent {tally.sent}, delivered {tally.delivered}, duplicates "
            f"{tally.duplicates}, in order: {tally.in_order}; commands {orders.sent}, handled "
            f"{orders.handled}, lost {orders.lost}, twice {orders.twice}, the broker's "
            f"{orders.excused}, in order: {orders.in_order}; {self.poisons} refused by the broker; "
            f"parked wrongly {self.parked} ({rate:.2%}), {tally.parked} of them still"
        )


def strike(scene: Scene, name: str, chance: random.Random) -> None:
    """Let a fault strike, for a while, and wait until the device is back."""
    fault = FAULTS[name]
    lasts_s = chance.uniform(0, _LASTS_S)
    resets = chance.randint(0, _RESETS) if fault.program else 0
    scene.report()
    assert scene.commander is not None
    unsettled = scene.commander.unsettled(scene.sender.handled)
    acting = fault.act(scene)
    next(acting)
    for _ in range(resets):
        time.sleep(lasts_s / (resets + 1))
        scene.proxy.reset()
    time.sleep(lasts_s / (resets + 1))  # the fault itself: nothing is waited for
    next(acting, None)
    scene.await_number(scene.report()["published"], _RECOVERY_S)
    if fault.repeats:
        scene.commander.excuse(unsettled, fault.forgets)


def soak(directory: Path, lasting_s: float, seed: int) -> list[Outcome]:
    """Let random faults strike a device of each interpreter for so long; return what became of
    their messages.
    """
    authority = Authority.create(directory / "ca", name="soak", passphrase=None)
    printing = threading.Lock()
    began = time.monotonic()

    def endure(interpreter: str) -> Outcome:
        chance = random.Random(f"{seed} {interpreter}")
        # An attempt has time enough for the slowest network there is here.
        options = {"connect_timeout_s": SLOW_CONNECT_S}
        names = suffered_by(interpreter, names=False)
        names = [name for name in names if not FAULTS[name].alone]
        with (
            Ground(authority, directory / interpreter) as ground,
            Scene(
                ground, interpreter, f"soak-{interpreter}", options, commands_s=_COMMANDS_S
            ) as scene,
        ):
            calm_failures = 0
            while time.monotonic() - began < lasting_s:
                name = chance.choice(names)
                with printing:
                    print(
                        f"{time.monotonic() - began:6.1f} s  {interpreter:11}  {name}", flush=True
                    )
                strike(scene, name, chance)
                peace_s = chance.uniform(0, _PEACE_S)
                failures = scene.report()["failures"]
                if failures - calm_failures > _FAILURES:
                    peace_s, calm_failures = _STABLE_S, failures
                # Peace itself: nothing is waited for.
                time.sleep(min(peace_s, max(0.0, began + lasting_s - time.monotonic())))
            poisons = scene.report()["poisons"]
            orders = scene.command_tally()
            assert orders is not None
            tally = scene.tally()
            late = sum(map(len, scene.sender.late.values()))
            return Outcome(interpreter, tally, orders, poisons, late)

    with ThreadPoolExecutor(len(INTERPRETERS)) as pool:
        return list(pool.map(endure, INTERPRETERS))


def _minutes(text: str) -> float:
    """Read how long, for argparse: NaN is in no range."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0
    if not 0 < minutes <= _MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"must be above 0, and {_MOST_MINUTES} at most")
    return minutes


def main(arguments: list[str] | None = None) -> int:
    """Run a soak as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=_minutes, default=10, help="how long faults strike (default: 10)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=None,
        help="repeat the faults of an earlier run, which printed it",
    )
    given = parser.parse_args(arguments)
    if find_program("mosquitto") is None:
        print("soak: Mosquitto is not installed: apt-get install mosquitto", file=sys.stderr)
        return 1
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"soak: seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        try:
            outcomes = soak(Path(directory), given.minutes * 60, seed)
        except AssertionError as error:
            print(f"soak: {error}; to repeat this: --seed {seed}", file=sys.stderr)
            return 1
    for outcome in outcomes:
        print(f"soak: {outcome}")
    sent = sum(outcome.tally.sent for outcome in outcomes)
    delivered = sum(outcome.tally.delivered for outcome in outcomes)
    lost = sum(outcome.tally.lost for outcome in outcomes)
    print(f"soak: sent {sent}, delivered {delivered}, lost {lost}")
    return 0 if all(outcome.well for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
