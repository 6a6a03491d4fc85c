"""The soak, for a few seconds: `make soak` runs it for as long as one wishes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from support.requirements import require_program
from support.speed import seconds

SOAK = Path(__file__).with_name("soak.py")


def test_a_short_soak_delivers_all_that_was_sent() -> None:
    require_program("mosquitto")
    require_program("micropython")
    # The first three of this seed's faults for each device are soon over; their recovery is what
    # takes the time.
    done = subprocess.run(
        [sys.executable, str(SOAK), "--minutes", "0.15", "--seed", "10425"],
        capture_output=True,
        text=True,
        timeout=seconds(110),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    total = re.search(r"^soak: sent (\d+), delivered (\d+), lost 0$", done.stdout, re.M)
    assert total is not None, done.stdout
    assert int(total[1]) == int(total[2]) > 50
    commands = re.findall(r"commands (\d+), handled (\d+), lost 0, twice 0", done.stdout)
    assert len(commands) == 2 and all(int(sent) > 5 for sent, _ in commands), done.stdout
    assert done.stdout.startswith("soak: seed 10425\n")


def test_the_soak_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, str(SOAK), "--help"],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=True,
    )
    assert "--seed 42" in done.stdout
