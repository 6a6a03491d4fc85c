"""The last step: the board itself connects to the broker, publishes one message, and says how it
went.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from securemqtt.errors import HostNameMismatch
from securemqtt_tools.broker.check import STALE
from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board import answers
from securemqtt_tools.provision.board.repl import Board

_LONGEST_MS = 1 << 31
# Joining Wi-Fi, looking up a name and a handshake on a small CPU, each with a deadline of its own
# in the script.
_TEST_S = 120

_SCRIPT = """\
import gc,json,time
def _connect():
 import securemqtt
 securemqtt.log_to(lambda level,text:None)
 c=securemqtt.Client('/secure',status=False)
 t=time.ticks_ms()
 c.connect(75)
 r['connected_ms']=time.ticks_diff(time.ticks_ms(),t)
 c.publish('~/provisioned',{'heap_free':gc.mem_free()})
 r['ok']=c.flush(15)
 c.disconnect(5)
 if not r['ok']:r['what']='the broker took the connection but acknowledged no message'
r={'ok':False}
try:
 _connect()
except Exception as e:
 r['error'],r['what']=type(e).__name__,str(e)
print(json.dumps(r))
"""


# A soft reset leaves Wi-Fi as it was: what a board has joined by an earlier password would prove
# nothing of the new one.
_LEAVE_WIFI = """\
import network
network.WLAN(network.STA_IF).active(False)
"""


def connect_from_board(
    board: Board, host: str, port: int, join_anew: bool, names: Sequence[str] = ()
) -> str:
    """Have the board connect to its broker, within two minutes; return in words how it went.

    With `join_anew` it leaves its Wi-Fi first, and joins what its wifi.json says. `names` are those
    of our own broker, if there is one here.

    Raise FatalError with the board's own diagnosis when it could not. The board keeps what
    was put on it.
    """
    result = board.query(_LEAVE_WIFI * join_anew + _SCRIPT, _outcome, _TEST_S)
    if result["ok"]:
        return f"connected in {result['connected_ms'] / 1000:.1f} s, message acknowledged"
    name = result.get("error")
    said = f"{name}: {result['what']}" if name else result.get("what", "it did not say why")
    if name == HostNameMismatch.__name__ and names:
        said += "; " + (
            STALE
            if host in names
            else f"your own broker is {' or '.join(names)}: run this again with --broker {names[0]}"
        )
    raise FatalError(f"the board is set up but does not reach {host}:{port}: {said}")


def _outcome(said: Any) -> dict[str, Any]:
    result = answers.record(said)
    if answers.flag(result["ok"]):
        answers.number(result["connected_ms"], 0, _LONGEST_MS)
    elif "error" in result:
        answers.text(result["what"])
    return result
