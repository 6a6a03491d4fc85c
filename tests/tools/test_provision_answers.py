"""What a board answers may make no sense at all: one line says so, and what to do.

A board lies here by a module of its own in the place of json, by which our scripts print.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from securemqtt_tools.provision.board import repl
from securemqtt_tools.provision.board.answers import SenselessError, parsed, record
from securemqtt_tools.provision.board.files import make_directories, remove, write
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import Provisioner
from support.boards.simboard import require_micropython

_LIAR = """\
from ujson import *
import ujson
def dumps(x):
 facts=x if isinstance(x,dict) and 'mpy' in x else {}
 digest=isinstance(x,str) and len(x)==64
 pair=isinstance(x,tuple) and len(x)==2
 flag=isinstance(x,bool)
 TELL
 return ujson.dumps(x)
"""


@pytest.fixture(scope="module")
def board() -> Iterator[SimulatedBoard]:
    """Run a board with a file in each place that is looked at."""
    require_micropython()
    with SimulatedBoard() as board:
        with repl.Board(board.port) as there:
            make_directories(there, ["/lib/securemqtt", "/secure"])
            write(there, "/lib/securemqtt/x.py", b"x = 1\n")
            write(there, "/main.py", b"x = 1\n")
            write(there, "/secure/config.json", b"{}")
        yield board


@pytest.mark.parametrize(
    "tells",
    [
        "facts and facts.update(clock_s=10**18)",
        "facts and facts.update(clock_s=-10**18)",
        "facts and facts.update(clock_s='now')",
        "facts and facts.update(block_bytes=0)",
        "facts and facts.update(free_bytes=-5)",
        "facts and facts.update(version=[])",
        "facts and facts.update(version=[[1],2])",
        "facts and facts.update(epoch_year=[])",
        "if facts: return '['*20000",
        "if facts: return '9'*5000",
        "if facts: return '21.5'",
        "if digest: return '21.5'",
        "if digest: return '\"ab\"'",
        "if digest: return ujson.dumps(x)+'\\r\\nnull'",
        "if pair: return '5'",
        "if pair: return '[[1,2],\"x\"]'",
        'if pair: return \'["/lib/securemqtt/x.py",{"a":1}]\'',
        "if pair: return '[1,2,3]'",
        "if x=='7b7d': return '5'",
        "if x=='7b7d': return 'null'",
        "if x=='7b7d': return '\"zz\"'",
        "if flag: return '21.5'",
    ],
)
def test_an_answer_that_makes_no_sense(
    provisioner: Provisioner, board: SimulatedBoard, tells: str
) -> None:
    with repl.Board(board.port) as there:
        write(there, "/lib/json.py", _LIAR.replace("TELL", tells).encode())
        there.soft_reset()
    try:
        outcome = provisioner.board(board, "liar", "--no-connect", "--dry-run")
    finally:
        with repl.Board(board.port) as there:
            remove(there, ["/lib/json.py"])
            there.soft_reset()
    assert outcome.status == 1, outcome.text
    assert outcome.said("gave no sensible answer", "reset it and try again"), outcome.text


def test_an_answer_that_is_nested_without_an_end() -> None:
    with pytest.raises(SenselessError):
        parsed("[" * 200000, record)


def test_a_config_of_a_board_s_that_is_nested_without_an_end_counts_as_none(
    provisioner: Provisioner, board: SimulatedBoard
) -> None:
    with repl.Board(board.port) as there:
        write(there, "/secure/config.json", b"[" * 20000)
    outcome = provisioner.board(board, "nested", "--no-connect", "--dry-run")
    assert (outcome.status, outcome.err) == (0, ""), outcome.text
    assert "write /secure/config.json" in outcome.out


@pytest.mark.parametrize("name", ["main", "boot"])
def test_a_program_in_another_encoding_stays(
    provisioner: Provisioner, board: SimulatedBoard, name: str
) -> None:
    """MicroPython runs it: the comment is none of its business."""
    with repl.Board(board.port) as there:
        write(there, f"/{name}.py", "# Température\nx = 1\n".encode("latin-1"))
    outcome = provisioner.board(board, "latin", "--no-connect", "--dry-run")
    assert (outcome.status, outcome.err) == (0, ""), outcome.text
    assert f"/{name}.py is another program and stays" in outcome.out
