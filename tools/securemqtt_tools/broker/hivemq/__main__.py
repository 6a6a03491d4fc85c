"""`python -m securemqtt_tools.broker.hivemq DIRECTORY`: the HiveMQ of $HIVEMQ_HOME with the files
of a broker's directory, in the foreground, until it is told to end.

What `securemqtt broker` and `securemqtt ca` write there is taken up while it runs.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.children import last_words, spawn
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.hivemq.program import HOME, find_hivemq
from securemqtt_tools.broker.hivemq.server import HiveMQ
from securemqtt_tools.broker.lock import holding
from securemqtt_tools.broker.rules_file import NAME as RULES
from securemqtt_tools.cli import FatalError

_WATCHED = (files.SETTINGS, RULES, files.CRL, files.CA, files.SERVER)
_LOOK_S = 0.5
_START_S = 120.0
_STOP_S = 60.0


def main(arguments: Sequence[str]) -> int:
    """Run it; return 1 after one line that says what is wrong."""
    try:
        if len(arguments) != 1:
            raise FatalError("name one directory, such as ~/.securemqtt/broker")
        run(Path(arguments[0]))
    except FatalError as error:
        print(f"hivemq: {error}", file=sys.stderr)
        return 1
    return 0


def run(directory: Path) -> None:
    """Run it until SIGTERM or SIGINT. For the main thread. Raise FatalError."""
    program = find_hivemq()
    if program is None:
        raise FatalError(f"set {HOME} to the directory of HiveMQ CE, which has bin/hivemq.jar")
    config = BrokerConfig.open(directory)
    if 0 in (config.port, config.websockets_port):
        raise FatalError("choose a port: securemqtt broker init --force --port 8883 …")
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    # By which `securemqtt broker` says that files have changed: that is seen in any case.
    signal.signal(signal.SIGHUP, lambda *_: None)
    with holding(directory):
        log = config.directory / files.LOG
        broker = HiveMQ(config, program, log)
        seen = _marks(directory)
        broker.write()
        begin = log.stat().st_size if log.exists() else 0
        process = spawn(
            broker.command(), log, broker.environment(), config.limits.connections + 1000
        )
        try:
            waited_s = 0.0
            while broker.ready.search(said := log.read_bytes()[begin:]) is None:
                if process.poll() is not None or waited_s > _START_S:
                    raise FatalError(f"HiveMQ does not start: {last_words(said)} (see {log})")
                if ending.wait(_LOOK_S):
                    return
                waited_s += _LOOK_S
            print(f"HiveMQ {program.version_text} listens on {config.port}", flush=True)
            while not ending.wait(_LOOK_S):
                if process.poll() is not None:
                    raise FatalError(f"HiveMQ has ended by itself: see {log}")
                if (now := _marks(directory)) != seen:
                    broker.take_up()
                    seen = now
                    print("taken up what has changed", flush=True)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            finally:
                process.kill()


def _marks(directory: Path) -> list[tuple[int, int]]:
    """Return what tells files from those that were there before."""
    found = []
    for name in _WATCHED:
        path = directory / name
        status = path.stat() if path.exists() else None
        found.append((status.st_ino, status.st_mtime_ns) if status else (0, 0))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
