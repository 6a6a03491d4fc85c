"""What a board is and what it holds: asked of the board itself.

No secret is read: of a private key only whether it fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from securemqtt_tools.cli import FatalError
from securemqtt_tools.profiles import Profile, profiles_of
from securemqtt_tools.provision.board import answers, files
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.provision.bundle import BOARD_NAMES, CONFIG, named_files, parsed_object
from securemqtt_tools.provision.identity import Held, public_part, usable_chain

SECURE = "/secure"
LIBRARY = "/lib/securemqtt"
# Says whose identity an unfinished run was putting on the board; gone once config.json is in place.
CLAIM = f"{SECURE}/claim.json"
WIFI = f"{SECURE}/wifi.json"

_OLDEST_VERSION = (1, 24)
_EPOCHS = {1970: 0, 2000: 946684800}
CLOCK_SLACK_S = 10
# What a board may say: more than any has, and no more than this computer can reckon with.
_HIGHEST = 1 << 31
_LARGEST_BYTES = 1 << 40
_LATEST_S = 1 << 36  # the year 4147

_FACTS = """\
import sys,time,gc
try:
 import network
except ImportError:
 network=None
i=sys.implementation
v=os.statvfs('/')
gc.collect()
b=v[1] or v[0]
print(json.dumps({'implementation':i[0],'version':list(i[1][:3]),
'machine':getattr(i,'_machine',sys.platform),'mpy':getattr(i,'_mpy',0),
'block_bytes':b,'free_bytes':b*v[4],'clock_s':int(time.time()),'epoch_year':time.gmtime(0)[0],
'wlan':hasattr(network,'WLAN')}))
"""

# `umqtt` may be frozen, in /lib, or of a version that this MicroPython does not load: trying it is
# the only sure way.
_HAS_UMQTT = """\
import sys
for n in list(sys.modules):
 if n[:5]=='umqtt':del sys.modules[n]
try:
 import umqtt.simple
 _r=True
except (ImportError,ValueError,SyntaxError):
 _r=False
print(json.dumps(_r))
"""

# The DER of a key is whole when it is as long as its header says, and fits when it holds the
# certificate's public part.
_KEY_FITS = """\
_r=False
try:
 with open({path!r},'rb') as f:_k=f.read()
 if _k[:1]==b'\\x30':
  n=_k[1]-128
  s=_k[1]+2 if n<0 else int.from_bytes(_k[2:2+n],'big')+2+n
  _r=s==len(_k) and binascii.unhexlify({public!r}) in _k
except (OSError,IndexError):
 pass
_k=None
print(json.dumps(_r))
"""

# A boot.py that only holds comments is the one that ESP32's firmware makes: it counts as none. It
# may be in any encoding: MicroPython runs it.
_IS_BLANK = """\
_r=True
try:
 with open({path!r},'rb') as f:
  for l in f:
   l=l.strip()
   if l and l[0]!=35:
    _r=False
    break
except OSError:
 pass
print(json.dumps(_r))
"""


@dataclass(frozen=True)
class Facts:
    """What a board says about itself."""

    machine: str
    version: tuple[int, ...]
    mpy_version: int
    block_bytes: int
    free_bytes: int
    clock_s: int  # seconds since 1970
    has_wifi: bool


def ask_facts(board: Board) -> Facts:
    """Ask a board what it is; FatalError when it is not MicroPython."""
    facts = board.query(_FACTS, _facts)
    if isinstance(facts, str):
        raise FatalError(f"the board at {board.port} runs {facts}: put MicroPython on it")
    return facts


def _facts(said: Any) -> Facts | str:
    """Return what a board has said of itself; another implementation's name, if it is that."""
    if said["implementation"] != "micropython":
        return answers.text(said["implementation"])
    version = [answers.number(part, 0, _HIGHEST) for part in said["version"]]
    if len(version) < len(_OLDEST_VERSION):
        raise ValueError("no version")
    shown_s = answers.number(said["clock_s"], 0, _LATEST_S)
    return Facts(
        machine=answers.text(said["machine"]),
        version=tuple(version),
        mpy_version=answers.number(said["mpy"], 0, _HIGHEST) & 0xFF,
        block_bytes=answers.number(said["block_bytes"], 1, _HIGHEST),
        free_bytes=answers.number(said["free_bytes"], 0, _LARGEST_BYTES),
        clock_s=shown_s + _EPOCHS.get(answers.number(said["epoch_year"], 0, _HIGHEST), 0),
        has_wifi=answers.flag(said["wlan"]),
    )


def check_board(facts: Facts, profile: Profile, port: str) -> None:
    """Raise FatalError when the board is not of the kind that `profile` describes, or its
    MicroPython is too old.
    """
    if not profile.matches(facts.machine):
        known = " or ".join(one.key for one in profiles_of(facts.machine))
        remedy = (
            f"run again with {known} in place of {profile.key}"
            if known
            else f"this is no {profile.name}"
        )
        raise FatalError(
            f"the board at {port} is {facts.machine!r}: {remedy}, or plug in the right one"
        )
    if facts.version[:2] < _OLDEST_VERSION:
        version = ".".join(map(str, facts.version))
        raise FatalError(f"the board at {port} has MicroPython {version}: put 1.24 or later on it")


def set_clock(board: Board, facts: Facts, now: datetime, dry_run: bool) -> str:
    """Set the board's clock (UTC) if it is off by more than a few seconds; return in words what was
    done.
    """
    shown = datetime.fromtimestamp(0, now.tzinfo) + timedelta(seconds=facts.clock_s)
    if abs((shown - now).total_seconds()) <= CLOCK_SLACK_S:
        return "right"
    if not dry_run:
        moment = (now.year, now.month, now.day, now.weekday(), now.hour, now.minute, now.second, 0)
        board.run(f"import machine\nmachine.RTC().datetime({moment!r})")
    return f"showed {shown:%Y-%m-%d %H:%M}, {'would be' if dry_run else 'now'} set"


def has_umqtt(board: Board) -> bool:
    """Return True if the board can import umqtt.simple."""
    return board.query(_HAS_UMQTT, answers.flag)


def is_blank(board: Board, path: str) -> bool:
    """Return True if a program on the board is missing or has nothing but comments in it."""
    return board.query(_IS_BLANK.format(path=path), answers.flag)


def ask_identity(board: Board, secure: dict[str, str | None]) -> Held:
    """Look at the identity on a board; `secure` has the files under /secure and their hashes."""
    config = _read_json(board, secure, f"{SECURE}/{CONFIG}")
    claim = _read_json(board, secure, CLAIM)
    names = config if isinstance(config.get("key"), str) else BOARD_NAMES
    chain = _chain(board, secure, names)
    fits = False
    if chain:
        public = public_part(chain[0]).hex()
        script = _KEY_FITS.format(path=f"{SECURE}/{names['key']}", public=public)
        fits = board.query(script, answers.flag)
    claimed_by = claim.get("client_id")
    return Held(
        config=config,
        hashes={name: secure.get(f"{SECURE}/{name}") for name in named_files(config)},
        chain=chain,
        key_fits=fits,
        claimed_by=claimed_by if isinstance(claimed_by, str) else None,
    )


def _chain(
    board: Board, secure: dict[str, str | None], names: dict[str, Any]
) -> tuple[x509.Certificate, ...]:
    listed = named_files({"certificate": names.get("certificate")})
    if not listed or any(f"{SECURE}/{name}" not in secure for name in listed):
        return ()
    return usable_chain(
        x509.load_der_x509_certificate(files.read(board, f"{SECURE}/{name}")) for name in listed
    )


def _read_json(board: Board, secure: dict[str, str | None], path: str) -> dict[str, Any]:
    return parsed_object(files.read(board, path) if path in secure else None)
