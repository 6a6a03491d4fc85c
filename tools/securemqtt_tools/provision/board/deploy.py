"""What a board should hold against what it holds: the difference, whether there is room for it, and
putting it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board import files
from securemqtt_tools.provision.board.files import sha256
from securemqtt_tools.provision.board.repl import Board, BoardError
from securemqtt_tools.provision.board.survey import Facts

_ENOSPC = 28
# littlefs keeps two blocks per directory, and needs a few to move its own records about.
_SPARE_BLOCKS = 8
_LISTED = 5


@dataclass(frozen=True)
class Plan:
    """Files to write and files to remove on a board."""

    writes: dict[str, bytes] = field(repr=False)
    removes: tuple[str, ...] = ()
    replaces: frozenset[str] = frozenset()

    @property
    def size_bytes(self) -> int:
        """How much there is to send."""
        return sum(map(len, self.writes.values()))

    def without(self, path: str) -> Plan:
        """Return the plan without the writing of one file."""
        writes = {name: content for name, content in self.writes.items() if name != path}
        return replace(self, writes=writes, replaces=self.replaces - {path})

    def describe(self) -> list[str]:
        """Return the changes in words, a line each; many new files of one directory share a
        line.
        """
        new = sorted(self.writes.keys() - self.replaces)
        counts = Counter(path.rpartition("/")[0] for path in new)
        many = {directory: count for directory, count in counts.items() if count > _LISTED}
        return [
            *(f"write {count} files to {directory}" for directory, count in many.items()),
            *(f"write {path}" for path in new if path.rpartition("/")[0] not in many),
            *(f"replace {path}" for path in sorted(self.replaces)),
            *(f"remove {path}" for path in self.removes),
        ]


def make_plan(
    wanted: Mapping[str, bytes], held: Mapping[str, str | None], removes: Iterable[str] = ()
) -> Plan:
    """Compare what a board should hold with the hashes of what it holds."""
    writes = {
        path: content for path, content in wanted.items() if held.get(path) != sha256(content)
    }
    replaces = frozenset(path for path in writes if held.get(path) is not None)
    return Plan(writes, tuple(sorted(set(removes) - wanted.keys())), replaces)


def check_room(plan: Plan, facts: Facts, more_files: int = 0) -> None:
    """Raise FatalError when the board's flash has no room; `more_files` are small ones yet to be
    made.

    A file that is replaced counts too: old and new are there together until the new one is whole.
    """
    block = facts.block_bytes
    blocks = sum(-(-len(content) // block) for content in plan.writes.values()) + more_files
    if not blocks:
        return
    needed = (blocks + _SPARE_BLOCKS) * block
    if needed > facts.free_bytes:
        raise _no_room(
            f"it needs about {needed // 1024} kB of flash and {facts.free_bytes // 1024} kB are "
            f"free"
        )


def carry_out(
    board: Board,
    plan: Plan,
    moved: Callable[[int], None] = lambda count: None,
    keeps: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Write and remove what the plan says, in its order. What is replaced goes, but for the paths
    in `keeps`, which has other names for it (`files.write`).

    Raise FatalError; what is done by then stays done.
    """
    try:
        files.make_directories(board, {path.rpartition("/")[0] for path in plan.writes} - {""})
        for path, content in plan.writes.items():
            files.write(board, path, content, moved, keeps.get(path, ()))
        files.remove(board, plan.removes)
    except BoardError as error:
        if error.errno == _ENOSPC:
            raise _no_room("its flash is full") from error
        raise


def verify(board: Board, wanted: Mapping[str, str]) -> None:
    """Raise FatalError unless every file on the board has the hash that it should have."""
    held = files.hashes(board, wanted)
    wrong = sorted(path for path, digest in wanted.items() if held[path] != digest)
    if wrong:
        raise FatalError(
            f"{', '.join(wrong)}: not on the board as it was sent; run the same command again"
        )


def _no_room(why: str) -> FatalError:
    return FatalError(
        f"no space on the board: {why}; delete what you do not need (mpremote fs ls, mpremote fs "
        f"rm)"
    )
