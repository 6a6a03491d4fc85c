"""Provisioning a board: look at what it is and what it holds, put there what is missing, and have
it connect.

Nothing is remembered between runs: each looks at the board, so a run that was cut short is finished
by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from securemqtt_tools import entry
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.clock import check_clock
from securemqtt_tools.provision.board import survey
from securemqtt_tools.provision.board.bundle import IDENTITY_FILES, BoardBundle
from securemqtt_tools.provision.board.deploy import Plan, carry_out, check_room, make_plan, verify
from securemqtt_tools.provision.board.files import PART, hashes, sha256, tree
from securemqtt_tools.provision.board.order import Order
from securemqtt_tools.provision.board.ports import find_port
from securemqtt_tools.provision.board.repl import GIVING_BACK, Board
from securemqtt_tools.provision.board.romfs import deploy_image, holds_image
from securemqtt_tools.provision.board.selftest import connect_from_board
from securemqtt_tools.provision.board.software import PROGRAMS, Software, surplus
from securemqtt_tools.provision.board.survey import LIBRARY, SECURE, WIFI, Facts
from securemqtt_tools.provision.board.trial import MAIN, UserProgram, read_program, try_program
from securemqtt_tools.provision.steps import Steps


def provision_board(order: Order, steps: Steps) -> bool:
    """Provision a board and start its program again; return True if there was anything to change.

    With `dry_run` it is said and not done. Raise FatalError, also when all is in place but the
    board does not reach the broker, or a program of the user's dies there.
    """
    program = None
    if order.main:
        program = read_program(order.main, order.cache, order.profile.mpy_arch)
    with entry.put_off(GIVING_BACK) as hold:
        with steps.step("Board") as step:
            port = order.port or find_port(order.profile.usb_ids, order.profile.name)
            step.note = port
            board = Board(port, order.profile.family)
        with board, _program_restarted(board, hold):
            return _Provisioning(order, steps, board, program, hold).run()


@contextmanager
def _program_restarted(board: Board, hold: Callable[[], None]) -> Iterator[None]:
    """Start the board's own program again at the end, whatever happens: we have interrupted it.
    `hold` puts off Ctrl-C meanwhile.
    """
    try:
        yield
    except BaseException:
        hold()
        with suppress(FatalError):  # the first fault is the one to tell
            board.start_program(interrupt=True)
        raise
    hold()
    if not board.runs_program:
        board.start_program()


class _Provisioning:
    """One run over one board."""

    def __init__(
        self,
        order: Order,
        steps: Steps,
        board: Board,
        program: UserProgram | None,
        hold: Callable[[], None],
    ) -> None:
        self._order = order
        self._steps = steps
        self._board = board
        self._program = program
        self._hold = hold

    def run(self) -> bool:
        order, steps, board = self._order, self._steps, self._board
        check_clock(order.authority.now, order.authority.issuing_certificate)
        facts = self._examine()
        with steps.step("Contents") as step:
            held = self._hashes()
            bundle = BoardBundle(order, board, held)
            reason = bundle.reason()
            self._check_wifi(facts, held)
            step.note = f"certificate: {reason or 'good'}"
        # asked for only now, when a mistake would have been told
        wifi = {WIFI: order.wifi()} if order.wifi else {}
        software = Software(order, board, facts, held, self._program)
        with steps.step("Library") as step:
            image = software.image()
            wanted = {**software.files(with_library=image is None), **wifi}
            plan = make_plan(wanted, held, surplus(held, wanted))
            check_room(plan, facts, IDENTITY_FILES if reason else 1)
            if image and holds_image(board, image):
                image = None
            step.note = (
                f"{len(plan.writes)} of {len(wanted)} files to copy, "
                f"{plan.size_bytes / 1000:.1f} kB"
            )
            if image:
                step.note += f"; {len(image) / 1000:.1f} kB for the ROMFS"
        for remark in software.remarks:
            steps.say(f"  {remark}")
        changed = bool(image or plan.writes or plan.removes or bundle.incomplete or reason)
        if order.dry_run:
            if image:
                steps.say("  would put the library into the board's ROMFS")
            for line in (*plan.describe(), *bundle.describe(reason)):
                steps.say(f"  would {line}")
            return changed
        if reason:
            order.authority.unlock()  # a wrong passphrase shows before anything is copied
        if image:
            self._deploy(image)
        self._copy(plan.without(MAIN) if self._program else plan)
        if reason:
            self._issue(bundle)
        elif bundle.incomplete:
            with steps.step("Settings") as step:
                bundle.complete()
                step.note = f"{order.settings.host}:{order.settings.port}"
        with steps.step("Check") as step:
            checked = {path: sha256(content) for path, content in wanted.items()}
            if self._program:
                del checked[MAIN]
            verify(board, checked)
            step.note = f"{len(checked)} files have the right hash on the board"
        if order.connect:
            self._connect(facts.has_wifi and order.wifi is not None)
        if self._program:
            try_program(board, self._program, steps, self._hold)
        return changed

    def _examine(self) -> Facts:
        order, board = self._order, self._board
        with self._steps.step("Kind") as step:
            facts = survey.ask_facts(board)
            survey.check_board(facts, order.profile, board.port)
            version = ".".join(map(str, facts.version))
            step.note = (
                f"{facts.machine}, MicroPython {version}, {facts.free_bytes // 1024} kB "
                f"of flash free"
            )
        with self._steps.step("Clock") as step:
            step.note = survey.set_clock(board, facts, order.authority.now, order.dry_run)
        return facts

    def _hashes(self) -> dict[str, str | None]:
        singles = [
            f"/{name}{end}" for name in (*PROGRAMS, "lib/umqtt/simple.mpy") for end in ("", PART)
        ]
        held = {
            **tree(self._board, LIBRARY),
            **tree(self._board, SECURE),
            **hashes(self._board, singles),
        }
        return {path: digest for path, digest in held.items() if digest is not None}

    def _check_wifi(self, facts: Facts, held: dict[str, str | None]) -> None:
        order = self._order
        if facts.has_wifi and order.wifi is None and WIFI not in held and order.connect:
            raise FatalError(
                "the board knows no Wi-Fi yet: add --wifi SSID (or --no-connect to leave it at "
                "that)"
            )

    def _deploy(self, image: bytes) -> None:
        with self._steps.step("ROMFS") as step:
            deploy_image(self._board, image)
            if not holds_image(self._board, image):
                raise FatalError(
                    "the board's ROMFS does not hold what was sent: run the same command again"
                )
            step.note = f"{len(image) / 1000:.1f} kB"

    def _copy(self, plan: Plan) -> None:
        if not plan.writes and not plan.removes:
            return
        with self._steps.step("Copy") as step:
            step.expect(plan.size_bytes)
            carry_out(self._board, plan, step.advance)
            step.note = f"{len(plan.writes)} file{'s' if len(plan.writes) != 1 else ''}"

    def _issue(self, bundle: BoardBundle) -> None:
        settings = self._order.settings
        with self._steps.step("Certificate", quiet=True) as step:
            ends = bundle.issue()
            verb = "imported for" if settings.made_elsewhere else "issued to"
            step.note = f"{verb} {settings.device_id}, until {ends:%Y-%m-%d}"

    def _connect(self, join_anew: bool) -> None:
        settings = self._order.settings
        peer = f"{settings.host}:{settings.port}"
        with self._steps.step(f"Connection to {peer}") as step:
            if self._program:
                step.note = f"{self._program.name} comes after it"
            self._board.soft_reset()
            step.note = connect_from_board(
                self._board, settings.host, settings.port, join_anew, self._order.broker_names
            )
