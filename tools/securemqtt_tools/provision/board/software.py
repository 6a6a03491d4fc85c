"""The software that a board should hold: the library and the programs, and where the library goes,
into `/lib` or into the board's ROMFS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board import survey
from securemqtt_tools.provision.board.compiler import Compiler
from securemqtt_tools.provision.board.files import PART, sha256
from securemqtt_tools.provision.board.library import board_sources, library_directory
from securemqtt_tools.provision.board.order import Order
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.provision.board.romfs import ask_rom, build_image
from securemqtt_tools.provision.board.survey import LIBRARY, Facts
from securemqtt_tools.provision.board.trial import UserProgram
from securemqtt_tools.provision.board.umqtt import cached_sources, umqtt_sources
from securemqtt_tools.resources import firmware_directory

PROGRAMS = ("boot.py", "main.py")


class Software:
    """What one board should hold of it.

    `held` has the hashes of what is on the board, `program` is the user's own in place of our
    main.py. `remarks` is what a person should know, and is no mistake.
    """

    def __init__(
        self,
        order: Order,
        board: Board,
        facts: Facts,
        held: dict[str, str | None],
        program: UserProgram | None,
    ) -> None:
        self.remarks: list[str] = []
        self._order = order
        self._board = board
        self._facts = facts
        self._held = held
        self._program = program

    def image(self) -> bytes | None:
        """Return what the board's ROMFS should hold; None if the library goes into `/lib`. Raise
        FatalError.
        """
        rom = ask_rom(self._board)
        if rom is None:
            if self._order.romfs:
                raise FatalError(
                    "the board's firmware has no ROMFS: leave out --romfs, and the library goes "
                    "into /lib"
                )
            return None
        if not self._order.romfs and not rom.holds_library:
            return None
        image = build_image(self._modules(has_umqtt=False))
        rom.check(image)
        return image

    def files(self, with_library: bool) -> dict[str, bytes]:
        """Return the files that the board should hold: the programs, and the library if it goes
        into `/lib`.
        """
        modules = self._modules(survey.has_umqtt(self._board)) if with_library else {}
        wanted = {f"/lib/{name}": content for name, content in modules.items()}
        for name in PROGRAMS:
            path, content = f"/{name}", self._content(name)
            is_ours = self._held.get(path) == sha256(content)
            if name in self._order.programs or is_ours or survey.is_blank(self._board, path):
                wanted[path] = content
            else:
                self.remarks.append(
                    f"{path} is another program and stays (--force-{name[:4]} replaces it)"
                )
        return wanted

    def _modules(self, has_umqtt: bool) -> dict[str, bytes]:
        """Return the library, compiled, and umqtt.simple if the board has none."""
        sources = board_sources(library_directory())
        if not has_umqtt:
            sources.update(self._umqtt())
        return Compiler(self._order.cache).compile(sources, self._facts.mpy_version)

    def _umqtt(self) -> dict[str, str]:
        if not self._order.dry_run:
            return umqtt_sources(self._order.cache)
        sources = cached_sources(self._order.cache)
        if sources is None:
            self.remarks.append("would download umqtt.simple and write it to /lib/umqtt")
        return sources or {}

    def _content(self, name: str) -> bytes:
        if name == "main.py" and self._program:
            return self._program.content
        return (firmware_directory() / name).read_bytes()


def surplus(held: Iterable[str], wanted: Mapping[str, bytes]) -> list[str]:
    """Return what has to go: modules of another version (a .py would be taken before our .mpy), and
    the parts of files that an interrupted run left beside their places.
    """
    old = [path for path in held if path.startswith(LIBRARY + "/") and path not in wanted]
    return old + [path for path in held if path.endswith(PART)]
