"""Faults at random, on both interpreters, for a given time: `make soak`. Exit status 1 if anything
was lost.

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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    path
    for path in map(str, (ROOT / "tests", ROOT / "tools", ROOT / "lib"))
    if path not in sys.path
]

from faults.repertoire import FAULTS, SLOW_CONNECT_S  # noqa: E402
from faults.rig import INTERPRETERS, Ground, Scene, Tally  # noqa: E402
from securemqtt_tools.pki import Authority  # noqa: E402
from support.requirements import find_program  # noqa: E402
from support.speed import seconds  # noqa: E402

# A fault lasts for so long after it has bitten, at most; then the device has so long in peace, at
# most.
_LASTS_S = 3.0
_PEACE_S = 3.0
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


def soak(directory: Path, lasting_s: float, seed: int) -> list[Tally]:
    """Let random faults strike a device of each interpreter for so long; return what became of
    their messages.
    """
    authority = Authority.create(directory / "ca", name="soak", passphrase=None)
    printing = threading.Lock()
    began = time.monotonic()

    def endure(interpreter: str) -> Tally:
        chance = random.Random(f"{seed} {interpreter}")
        # An attempt has time enough for the slowest network there is here.
        options = {"connect_timeout_s": SLOW_CONNECT_S}
        with (
            Ground(authority, directory / interpreter) as ground,
            Scene(ground, interpreter, f"soak-{interpreter}", options) as scene,
        ):
            calm_failures = 0
            while time.monotonic() - began < lasting_s:
                name = chance.choice([name for name, fault in FAULTS.items() if not fault.alone])
                lasts_s, peace_s = chance.uniform(0, _LASTS_S), chance.uniform(0, _PEACE_S)
                with printing:
                    print(
                        f"{time.monotonic() - began:6.1f} s  {interpreter:11}  {name}", flush=True
                    )
                acting = FAULTS[name].act(scene)
                next(acting)
                time.sleep(lasts_s)  # the fault itself: nothing is waited for
                next(acting, None)
                report = scene.report()
                scene.await_number(report["published"], _RECOVERY_S)
                if report["failures"] - calm_failures > _FAILURES:
                    peace_s, calm_failures = _STABLE_S, report["failures"]
                # Peace itself, too.
                time.sleep(min(peace_s, max(0.0, began + lasting_s - time.monotonic())))
            return scene.tally()

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
            tallies = soak(Path(directory), given.minutes * 60, seed)
        except AssertionError as error:
            print(f"soak: {error}; to repeat this: --seed {seed}", file=sys.stderr)
            return 1
    for interpreter, tally in zip(INTERPRETERS, tallies, strict=True):
        print(
            f"soak: {interpreter}: sent {tally.sent}, delivered {tally.delivered}, duplicates "
            f"{tally.duplicates}, in order: {tally.in_order}"
        )
    sent, delivered = (
        sum(tally.sent for tally in tallies),
        sum(tally.delivered for tally in tallies),
    )
    print(f"soak: sent {sent}, delivered {delivered}, lost {sent - delivered}")
    return 0 if sent == delivered and all(tally.in_order for tally in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
