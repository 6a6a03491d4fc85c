"""Wi-Fi lost and back: the simulated board, with the library as provisioning compiles it, publishes
through its radio.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from faults.rig import KEEP_ALIVE_S, PATIENCE_S, Ground
from faults.trial import Result
from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import mpremote
from support.identities.bundles import write_bundle
from support.interpreters.micropython import compiled_library, umqtt_directory
from support.network.net import wait_until

# How long the library waits for the radio to join before it starts anew.
JOIN_S = 20.0
_DEVICE = "fault-wifi"
_TOPIC = f"devices/{_DEVICE}/data/a"
_PROGRAM = f"""
from securemqtt import Client
client = Client(keep_alive_s={KEEP_ALIVE_S}, outbox_messages=400)
client.start()
published = 0
while True:
    client.publish("~/data/a", str(published))
    published += 1
    print("told", published, client.stats["failures"], client.connected)
    client.wait(0.2)
"""


def lose_wifi(authority: Authority, directory: Path) -> Result:
    """Switch the access point off until the board has noticed, and on again; return what that
    did.
    """
    library = compiled_library(directory / "lib")
    shutil.copytree(umqtt_directory() / "umqtt", library / "umqtt")
    program = directory / "main.py"
    program.write_text(_PROGRAM)
    with Ground(authority, directory / "ground") as ground, SimulatedBoard() as board:
        bundle = write_bundle(
            directory / "secure",
            authority,
            _DEVICE,
            port=ground.broker.port,
            host="127.0.0.1",
            board=True,
            clock_floor=int(time.time()),
        )
        (bundle / "wifi.json").write_text(json.dumps({"ssid": "any", "password": "thing"}))
        mpremote(board, "fs", "cp", "-r", str(library), str(bundle), str(program), ":/")
        board.reset()
        wait_until(
            lambda: ground.observer.latest(_TOPIC) >= 4, PATIENCE_S, "the board's first messages"
        )
        board.wifi(False)
        off = time.monotonic()
        wait_until(lambda: _told(board)[2] == "False", PATIENCE_S, "the board's notice")
        noticed_s = time.monotonic() - off
        published, failures, _ = _told(board)
        board.wifi(True)
        lifted = time.monotonic()
        when = wait_until(
            lambda: ground.observer.when_after(_TOPIC, int(published), lifted),
            2 * PATIENCE_S,
            "recovery",
        )
        assert when is not None
        due_s = JOIN_S + 2.0 ** int(failures)
        # What was published up to now has been acknowledged once what came after it has arrived.
        sent = ground.observer.latest(_TOPIC) + 1
        tally = ground.observer.tally(_TOPIC, sent)
        return Result(when - lifted, due_s, noticed_s, 0, tally).judged()


def _told(board: SimulatedBoard) -> list[str]:
    """Return what the board's program has said last: how many it has published, how many attempts
    failed, whether it is connected.
    """
    lines = [line for line in board.console().splitlines()[:-1] if line.startswith("told ")]
    return lines[-1].split()[1:]
