"""The library in a board's ROMFS, where its firmware has one: bytecode and constants then stay in
flash and take no heap.

mpremote builds the image and puts it there. A partition is replaced as a whole, so one that holds
anything of the user's own is left alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from mpremote.commands import CommandError, do_romfs  # type: ignore[import-untyped]
from mpremote.romfs import VfsRomWriter  # type: ignore[import-untyped]
from mpremote.transport import TransportExecError  # type: ignore[import-untyped]

from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board import answers
from securemqtt_tools.provision.board.files import sha256
from securemqtt_tools.provision.board.repl import Board

_LIBRARY = "lib/securemqtt/"
_OURS = (_LIBRARY, "lib/umqtt/")
_DEPLOY_S = 600
_LARGEST_BYTES = 1 << 32

_ASK = """\
import vfs
def _rom():
 try:
  if vfs.rom_ioctl(1)<=0:return
  d=vfs.rom_ioctl(2,0)
 except AttributeError:
  return
 if isinstance(d,int):return
 n=d.ioctl(4,0)*d.ioctl(5,0) if hasattr(d,'ioctl') else len(d)
 return {'size_bytes':n,'paths':[p[5:] for p in _t('/rom')]}
print(json.dumps(_rom()))
"""
_HASH = """\
import vfs
_m=memoryview(vfs.rom_ioctl(2,0))[:{size}]
print(json.dumps(binascii.hexlify(hashlib.sha256(_m).digest()).decode()))
"""


@dataclass(frozen=True)
class Rom:
    """A board's ROMFS: its size, and the files that are mounted from it, relative to `/rom`."""

    size_bytes: int
    paths: tuple[str, ...]

    @property
    def holds_library(self) -> bool:
        """Return True if the library is in it, where it is imported from before any in `/lib`."""
        return any(path.startswith(_LIBRARY) for path in self.paths)

    def check(self, image: bytes) -> None:
        """Raise FatalError if the image does not fit, or would replace files that are not ours."""
        others = [path for path in self.paths if not path.startswith(_OURS)]
        if others:
            raise FatalError(
                f"the board's ROMFS holds {others[0]}, which would be lost: build an image of your "
                "own with lib/securemqtt in it (mpremote romfs build), or leave out --romfs"
            )
        if len(image) > self.size_bytes:
            raise FatalError(
                f"the library takes {len(image) // 1024 + 1} kB and the board's ROMFS has "
                f"{self.size_bytes // 1024} kB: leave out --romfs"
            )


def ask_rom(board: Board) -> Rom | None:
    """Ask a board for its ROMFS; None if its firmware has none."""
    return board.query(_ASK, _rom)


def build_image(modules: Mapping[str, bytes]) -> bytes:
    """Return the image of a ROMFS with these modules (`securemqtt/client.mpy`) in `/lib`."""
    writer = VfsRomWriter()
    _add(writer, {f"lib/{name}": content for name, content in modules.items()})
    return bytes(writer.finalise())


def deploy_image(board: Board, image: bytes) -> None:
    """Put an image into the board's first ROMFS partition, by way of mpremote; it is mounted at the
    next reset. FatalError when mpremote cannot.
    """
    with tempfile.NamedTemporaryFile(suffix=".romfs") as file:  # mpremote takes a file only
        file.write(image)
        file.flush()
        order = SimpleNamespace(command=["deploy"], path=file.name, partition=0, mpy=False)
        with board.mpremote(_DEPLOY_S) as transport:
            try:
                do_romfs(_Session(transport), order)
            except (CommandError, TransportExecError) as error:
                raise FatalError(
                    f"mpremote cannot write the ROMFS of the board at {board.port}: {error}"
                ) from error


def holds_image(board: Board, image: bytes) -> bool:
    """Return True if this image is in the board's ROMFS: computed on the board."""
    digest = board.query(_HASH.format(size=len(image)), answers.digest, 60)
    return digest == sha256(image)


def _rom(said: Any) -> Rom | None:
    if said is None:
        return None
    size_bytes = answers.number(said["size_bytes"], 0, _LARGEST_BYTES)
    return Rom(size_bytes, tuple(map(answers.text, said["paths"])))


class _Session:
    """What mpremote's own commands work on: here a board whose raw REPL is ours already."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport

    def ensure_raw_repl(self) -> None:
        """Leave the board in its raw REPL."""

    def did_action(self) -> None:
        """Leave out mpremote's interactive prompt, which is for its command line."""


def _add(writer: Any, files: Mapping[str, bytes]) -> None:
    """Add files, given by their path, and the directories that they are in."""
    folders: dict[str, dict[str, bytes]] = {}
    for path, content in sorted(files.items()):
        folder, _, rest = path.partition("/")
        if rest:
            folders.setdefault(folder, {})[rest] = content
        else:
            writer.mkfile(path, content)
    for name, inside in folders.items():
        writer.opendir(name)
        _add(writer, inside)
        writer.closedir()
