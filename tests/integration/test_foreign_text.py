"""What others wrote reaches no terminal and no log as it is: where it is not the client's own words
that hold it, but those of an error, a board, or a server.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.brokers.servers import after, tls_server
from support.identities.laboratory import BOTH, Device, Laboratory
from support.interpreters.micropython import micropython_command, micropython_environment
from support.speed import seconds

WORDS = "a\x1b]0;title\x07\r\n2026-11-29 securemqtt info: all is well\u202e\u2028\x9b2J"
ESCAPED = r"a\x1b]0;title\x07\x0d\x0a2026-11-29 securemqtt info: all is well\u202e\u2028\x9b2J"
# A handler that fails over what it was told, as `raise RuntimeError(message.text())` does.
PROGRAM = f"""\
from securemqtt import log_to
from securemqtt.log import log_exception

WORDS = {WORDS!a}


def handler():
    raise RuntimeError(WORDS)


for function in (None, lambda level, text: print("told", text)):
    log_to(function)
    try:
        handler()
    except RuntimeError as error:
        log_exception(error)
try:
    raise ValueError("one\\ntwo")
except ValueError as error:
    log_exception(error)
"""


@pytest.mark.parametrize("interpreter", BOTH)
def test_a_traceback_has_no_line_of_an_outsiders(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    is_board = interpreter == "micropython"
    done = subprocess.run(
        [*(micropython_command() if is_board else [sys.executable]), str(program)],
        capture_output=True,
        timeout=seconds(60),
        check=True,
        env=micropython_environment() if is_board else dict(os.environ),
    )
    printed = (done.stdout + done.stderr).decode()
    assert "\x1b" not in printed and "\u202e" not in printed and "\u2028" not in printed
    lines = printed.split("\n")
    assert lines.count(f"RuntimeError: {ESCAPED}") == 2
    assert lines.count(r"ValueError: one\x0atwo") == 1
    assert not any(line.startswith("2026") for line in lines)
    # Where it happened is still said, a line for each place.
    assert sum(line.startswith('  File "') and "in handler" in line for line in lines) == 2
    told = [line for line in lines if line.startswith("told")]
    assert len(told) == 2 and r"\x1b" in told[0]


def test_a_servers_http_line_is_shown_and_not_obeyed(lab: Laboratory) -> None:
    pi = Device("cpython")
    answer = b"HTTP/1.1 404 \x1b[2J\xe2\x80\xae\x07\rforged\r\n\r\n"
    with tls_server(lab.context(), after(answer)) as port:
        report = pi.fails(lab.bundle(pi, port), "ProtocolRefused", options={"transport": "wss"})
    assert report.text.isprintable()
    assert r"\x1b[2J" in report.text
