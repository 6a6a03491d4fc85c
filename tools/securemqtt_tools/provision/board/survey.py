"""What a board is and what it holds: asked of the board itself.

No secret is read: of a private key only whether it fits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from securemqtt_tools.cli import FatalError
from securemqtt_tools.profiles import Profile, profiles_of
from securemqtt_tools.provision.board import files
from securemqtt_tools.provision.board.repl import Board, senseless
from securemqtt_tools.provision.bundle import BOARD_NAMES, CONFIG, named_files
from securemqtt_tools.provision.identity import Held, public_part

SECURE = "/secure"
LIBRARY = "/lib/securemqtt"
# Says whose identity an unfinished run was putting on the board; gone once config.json is in place.
CLAIM = f"{SECURE}/claim.json"
WIFI = f"{SECURE}/wifi.json"

_OLDEST_VERSION = (1, 24)
_EPOCHS = {1970: 0, 2000: 946684800}
CLOCK_SLACK_S = 10

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

# A boot.py that only holds comments is the one that ESP32's firmware makes: it counts as none.
_IS_BLANK = """\
_r=True
try:
 with open({path!r}) as f:
  for l in f:
   l=l.strip()
   if l and l[0]!='#':
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
    said = board.query(_FACTS)
    try:
        if said["implementation"] != "micropython":
            raise FatalError(
                f"the board at {board.port} runs {said['implementation']}: put MicroPython on it"
            )
        return Facts(
            machine=str(said["machine"]),
            version=tuple(int(part) for part in said["version"]),
            mpy_version=int(said["mpy"]) & 0xFF,
            block_bytes=int(said["block_bytes"]),
            free_bytes=int(said["free_bytes"]),
            clock_s=int(said["clock_s"]) + _EPOCHS.get(said["epoch_year"], 0),
            has_wifi=bool(said["wlan"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise senseless(board.port) from error


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
    return bool(board.query(_HAS_UMQTT))


def is_blank(board: Board, path: str) -> bool:
    """Return True if a program on the board is missing or has nothing but comments in it."""
    return bool(board.query(_IS_BLANK.format(path=path)))


def ask_identity(board: Board, secure: dict[str, str | None]) -> Held:
    """Look at the identity on a board; `secure` has the files under /secure and their hashes."""
    config = _read_json(board, secure, f"{SECURE}/{CONFIG}")
    claim = _read_json(board, secure, CLAIM)
    names = config if isinstance(config.get("key"), str) else BOARD_NAMES
    chain = _chain(board, secure, names)
    fits = False
    if chain:
        public = public_part(chain[0]).hex()
        fits = bool(board.query(_KEY_FITS.format(path=f"{SECURE}/{names['key']}", public=public)))
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
    try:
        return tuple(
            x509.load_der_x509_certificate(files.read(board, f"{SECURE}/{name}")) for name in listed
        )
    except ValueError:
        return ()


def _read_json(board: Board, secure: dict[str, str | None], path: str) -> dict[str, Any]:
    if path not in secure:
        return {}
    try:
        value = json.loads(files.read(board, path))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
