"""The way to the board and back: the scenarios and two bundles lie in a directory of their own, and
nothing of it stays.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board import answers, survey
from securemqtt_tools.provision.board.compiler import Compiler
from securemqtt_tools.provision.board.deploy import Plan, carry_out, check_room
from securemqtt_tools.provision.board.files import sha256, tree
from securemqtt_tools.provision.board.library import board_sources, library_directory
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.provision.board.umqtt import umqtt_sources
from securemqtt_tools.resources import scenarios_directory

PLACE = "/securemqtt-selftest"
_LIBRARY = f"{PLACE}/lib"
_SCENARIOS = f"{PLACE}/scenarios"
_COMMON = ("common", "asyncio_common")
_ASYNCIO_FACE = "asyncio_face"  # for the suite's own runs over the other face
_JOIN_S = 60
_FIGURES_S = 180
# What a scenario may be late, and how long it waits for what must come: boards differ, and the
# radio may be busy.
_PATIENCE = {
    "SECUREMQTT_TEST_SLOWNESS": 5,
    "SECUREMQTT_TEST_PATIENCE_S": 60,
    "SECUREMQTT_TEST_SLACK_S": 8,
}

_REMOVE = f"""\
def _rt(d):
 try:l=list(os.ilistdir(d))
 except OSError:return
 for e in l:
  p=d+'/'+e[0]
  if e[1]&0x4000:_rt(p)
  else:os.remove(p)
 os.rmdir(d)
_rt({PLACE!r})
print(json.dumps(True))
"""

_MORE_FACTS = """\
import sys,gc
i=sys.implementation
gc.collect()
r={'build':getattr(i,'_build',''),'version':sys.version,'platform':sys.platform,
'heap_free':gc.mem_free(),'heap_used':gc.mem_alloc()}
print(json.dumps(r))
"""
_SERIAL_NUMBER = """\
import machine
print(json.dumps(binascii.hexlify(machine.unique_id()).decode()))
"""

# The Wi-Fi's name and password are the board's own, and stay on it.
_JOIN = f"""\
import time
def _join():
 try:import network
 except ImportError:return None
 try:
  with open('/secure/wifi.json') as f:a=json.load(f)
 except (OSError,ValueError):a=None
 if a:
  for d in ('device','operator'):
   with open({PLACE!r}+'/'+d+'/wifi.json','w') as f:json.dump(a,f)
 if not hasattr(network,'WLAN'):return None
 w=network.WLAN(network.STA_IF)
 if not w.isconnected() and a:
  w.active(True)
  w.connect(a['ssid'],a.get('password') or None)
  e=time.time()+30
  while not w.isconnected() and time.time()<e:time.sleep(0.2)
 return w.ifconfig()[0] if w.isconnected() else ''
print(json.dumps(_join()))
"""

_PATHS = f"""\
import sys
for p in ({_SCENARIOS!r},{_LIBRARY!r}):
 if p not in sys.path:sys.path.insert(0,p)
"""

_FIGURES = """\
import gc,time
def _figures():
 gc.collect();r['heap_free_before_import']=gc.mem_free()
 import securemqtt
 securemqtt.log_to(lambda level,text:None)
 gc.collect();r['heap_free_after_import']=gc.mem_free()
 c=securemqtt.Client(%r,status=False)
 t=time.ticks_ms();c.connect(75);r['connect_ms']=time.ticks_diff(time.ticks_ms(),t)
 l=[]
 for n in range(20):
  t=time.ticks_ms()
  if not c.publish('~/figure',str(n)).wait(30):raise OSError('not acknowledged')
  l.append(time.ticks_diff(time.ticks_ms(),t))
 l.sort();r['acknowledged_median_ms']=l[10];r['acknowledged_longest_ms']=l[-1]
 t=time.ticks_ms()
 for n in range(100):
  c.publish('~/figure','x'*64)
  if n%%20==19:c.flush(30)
 c.flush(30);r['messages_per_s']=round(100000/max(1,time.ticks_diff(time.ticks_ms(),t)),1)
 gc.collect();r['heap_free_connected']=gc.mem_free()
 c.disconnect(5)
r={}
try:_figures()
except Exception as e:r['error'],r['what']=type(e).__name__,str(e)
print(json.dumps(r))
"""

# What goes wrong, and what the library logs, is told without the Wi-Fi's name and password. A heap
# that is tidied only when it is full is soon in pieces, and no place in it for a larger message.
_SCENARIO = """\
import gc,io,securemqtt
try:
 with open('/secure/wifi.json') as f:_a=json.load(f)
 _a=[s for s in (_a.get('password'),_a.get('ssid')) if s]
except (OSError,ValueError):_a=[]
def _plain(t):
 for s in _a:t=t.replace(s,'...')
 return t
def _log(l,t):print('log',l,_plain(t))
securemqtt.log_to(_log)
while sys.argv:sys.argv.pop()
sys.argv.extend(['selftest',%r])
gc.threshold(8192)
r={'held':False}
gc.collect();r['heap_free_before']=gc.mem_free()
try:
 __import__(%r)
 r['held']=True
except Exception as e:
 b=io.StringIO();sys.print_exception(e,b)
 r['error'],r['what'],r['traceback']=type(e).__name__,_plain(str(e)),_plain(b.getvalue()[-1500:])
gc.collect();r['heap_free_after']=gc.mem_free()
print('report',json.dumps(r))
"""
# So many of the library's last lines are worth reading where a scenario does not hold.
_LOG_LINES = 20


def scenario_names() -> list[str]:
    """Return the scenarios that there are."""
    names = (path.stem for path in scenarios_directory().glob("*.py"))
    return sorted(name for name in names if name not in (*_COMMON, _ASYNCIO_FACE))


def clear(board: Board) -> None:
    """Remove all that a visit, this one or an earlier one, has left."""
    board.query(_REMOVE, answers.anything, 60)


class Visit:
    """A board whose own program rests, and on which the scenarios are."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.facts = survey.ask_facts(board)

    def more_facts(self, serial_number: bool) -> dict[str, Any]:
        """Return what a report says of the board beyond `facts`."""
        self._fresh()
        more = self._board.query(_MORE_FACTS, answers.record)
        if serial_number:
            more["serial_number"] = self._board.query(_SERIAL_NUMBER, answers.text)
        return more

    def put(
        self,
        names: Sequence[str],
        bundles: dict[str, dict[str, bytes]],
        cache: Path,
        expect: Callable[[int], None],
        moved: Callable[[int], None],
    ) -> str:
        """Put the scenarios of these names there, and all that they need; return in words which
        library the board uses.

        `expect` is told how much there is, `moved` how much is done, each time.
        """
        scenarios, library, whose = self._programs(names, cache)
        plan = Plan({**_below(_SCENARIOS, scenarios), **_below(_LIBRARY, library)})
        for name, files in bundles.items():
            plan.writes.update(_below(f"{PLACE}/{name}", files))
        check_room(plan, self.facts, more_files=8)
        expect(plan.size_bytes)
        carry_out(self._board, plan, moved)
        return whose

    def join(self) -> str | None:
        """Have the board join its Wi-Fi; return its address, None if it has no Wi-Fi.

        Raise FatalError if it cannot join.
        """
        address = self._board.query(_JOIN, answers.text_or_none, _JOIN_S)
        if address == "":
            raise FatalError(
                "the board does not reach its Wi-Fi: provision it first (provision … --wifi SSID), "
                "or bring it nearer"
            )
        return address

    def figures(self) -> dict[str, Any]:
        """Return times and heap of a plain connection, on a fresh heap.

        Raise FatalError if the board does not reach the broker.
        """
        self._fresh()
        figures = self._board.query(
            _PATHS + _FIGURES % f"{PLACE}/device", answers.record, _FIGURES_S
        )
        if "error" in figures:
            raise FatalError(
                f"the board does not reach the broker of this machine ({figures['error']}: "
                f"{figures['what']}): a firewall may keep it out, or --address is another network's"
            )
        return figures

    def play(
        self, name: str, closed_port: int, act: Callable[[str], None], deadline_s: float
    ) -> dict[str, Any]:
        """Run a scenario on a fresh heap; return what came of it.

        Ends in time: at the deadline it is interrupted. Raise FatalError if the board goes away.
        """
        self._fresh()
        setting = json.dumps(
            {
                "id": "selftest",
                "bundle": f"{PLACE}/device",
                "operator": f"{PLACE}/operator",
                "closed_port": closed_port,
                "small": True,
                **_PATIENCE,
            }
        )
        checks: list[str] = []
        log: deque[str] = deque(maxlen=_LOG_LINES)
        result: dict[str, Any] = {"held": False, "checks": checks, "log": log}

        def heard(line: str) -> str | None:
            if line.startswith("ok "):
                checks.append(line.removeprefix("ok "))
            elif line.startswith("log "):
                log.append(line.removeprefix("log "))
            elif line.startswith("report "):
                with suppress(answers.SenselessError):
                    result.update(answers.parsed(line.removeprefix("report "), answers.record))
            elif line.startswith("want "):
                act(line.removeprefix("want "))
                return "done"
            return None

        script = _PATHS + _SCENARIO % (setting, name)
        died_of = self._board.follow(script, heard, deadline_s)
        if died_of is None:
            result.update({"error": "Overdue", "what": f"not at its end after {deadline_s:.0f} s"})
        elif "heap_free_after" not in result:
            last = died_of.strip().splitlines()[-1:] or ["it ended without a report"]
            result.update({"error": "NoReport", "what": last[0], "traceback": died_of})
        return result

    def _fresh(self) -> None:
        self._board.soft_reset()

    def _programs(
        self, names: Sequence[str], cache: Path
    ) -> tuple[dict[str, bytes], dict[str, bytes], str]:
        """Return the scenarios, and the library where the board has not this very one."""
        compiler = Compiler(cache)
        version = self.facts.mpy_version
        files = (scenarios_directory() / f"{name}.py" for name in (*_COMMON, *names))
        sources = {path.name: path.read_text() for path in files}
        scenarios = compiler.compile(sources, version)
        library = compiler.compile(board_sources(library_directory()), version)
        held = tree(self._board, survey.LIBRARY)
        own = all(held.get(f"/lib/{name}") == sha256(text) for name, text in library.items())
        has_umqtt = survey.has_umqtt(self._board)
        if own and has_umqtt:
            return scenarios, {}, "the one on the board"
        if not has_umqtt:
            library.update(compiler.compile(umqtt_sources(cache), version))
        return scenarios, library, "one for the occasion"


def _below(directory: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{directory}/{name}": content for name, content in files.items()}
