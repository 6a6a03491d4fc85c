"""Provisioning a board: look at what it is and what it holds, put there what is missing, and have
it connect.

Nothing is remembered between runs: each looks at the board, so a run that was cut short is finished
by the next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.clock import check_clock
from securemqtt_tools.profiles import Profile
from securemqtt_tools.provision.board import survey
from securemqtt_tools.provision.board.compiler import Compiler
from securemqtt_tools.provision.board.deploy import (
    Plan,
    carry_out,
    check_room,
    leftovers,
    make_plan,
    sha256,
    verify,
)
from securemqtt_tools.provision.board.library import board_sources, library_directory
from securemqtt_tools.provision.board.link import PART, Board
from securemqtt_tools.provision.board.ports import find_port
from securemqtt_tools.provision.board.romfs import ask_rom, build_image, holds_image
from securemqtt_tools.provision.board.selftest import connect_from_board
from securemqtt_tools.provision.board.survey import CLAIM, LIBRARY, SECURE, WIFI, Facts
from securemqtt_tools.provision.board.trial import MAIN, UserProgram, read_program, try_program
from securemqtt_tools.provision.board.umqtt import cached_sources, umqtt_sources
from securemqtt_tools.provision.bundle import (
    BOARD_NAMES,
    CONFIG,
    Files,
    Settings,
    anchor_files,
    config_text,
    identity_files,
    named_files,
)
from securemqtt_tools.provision.identity import Held, Source, reason_for
from securemqtt_tools.provision.steps import Steps
from securemqtt_tools.resources import firmware_directory

# Files that identities leave behind: at most this many are written for a new one.
_IDENTITY_FILES = 6
_PROGRAMS = ("boot.py", "main.py")


@dataclass(frozen=True)
class Order:
    """What is to be done.

    `wifi` gives the content of wifi.json, and may ask for it; None leaves it. `programs` are to be
    put there anyway. `romfs` puts the library into the board's ROMFS; where it is already, it stays
    there anyway.
    """

    profile: Profile
    settings: Settings
    authority: Source
    cache: Path
    port: str | None = None
    wifi: Callable[[], bytes] | None = field(default=None, repr=False)
    main: Path | None = None
    programs: frozenset[str] = frozenset()
    certificate_days: int | None = None
    renew: bool = False
    dry_run: bool = False
    connect: bool = True
    romfs: bool = False
    roots: tuple[x509.Certificate, ...] = ()  # to be trusted beside the authority's
    broker_names: tuple[str, ...] = ()  # of our own broker, whether or not the board goes there

    def anchors(self) -> list[x509.Certificate]:
        """Return the CAs by which the board is to verify its broker."""
        return [*self.authority.trust_anchors(), *self.roots]


def provision_board(order: Order, steps: Steps) -> bool:
    """Provision a board and start its program again; return True if there was anything to change.

    With `dry_run` it is said and not done. Raise FatalError, also when all is in place but the
    board does not reach the broker, or a program of the user's dies there.
    """
    program = None
    if order.main:
        program = read_program(order.main, order.cache, order.profile.mpy_arch)
    with steps.step("Board") as step:
        port = order.port or find_port(order.profile.usb_ids, order.profile.name)
        step.note = port
        board = Board(port, order.profile.family)
    with board, _program_restarted(board):
        return _Provisioning(order, steps, board, program).run()


@contextmanager
def _program_restarted(board: Board) -> Iterator[None]:
    """Start the board's own program again at the end, whatever happens: we have interrupted it."""
    try:
        yield
    except BaseException:
        with suppress(FatalError):  # the first fault is the one to tell
            board.start_program(interrupt=True)
        raise
    if not board.runs_program:
        board.start_program()


class _Provisioning:
    """One run over one board."""

    def __init__(
        self, order: Order, steps: Steps, board: Board, program: UserProgram | None
    ) -> None:
        self._order = order
        self._steps = steps
        self._board = board
        self._program = program
        self._wifi: bytes | None = None
        self._remarks: list[str] = []
        # A little in the past: the board's clock may be some seconds behind, and is not wrong then.
        self._clock_floor = int(order.authority.now.timestamp()) - survey.CLOCK_SLACK_S

    def run(self) -> bool:
        order, steps, board = self._order, self._steps, self._board
        check_clock(order.authority.now, order.authority.issuing_certificate)
        facts = self._examine()
        with steps.step("Contents") as step:
            held = self._hashes()
            secure = {
                path: digest for path, digest in held.items() if path.startswith(SECURE + "/")
            }
            identity = survey.ask_identity(board, secure)
            reason = self._reason(identity)
            self._check_wifi(facts, held)
            step.note = f"certificate: {reason or 'good'}"
        if order.wifi:
            self._wifi = order.wifi()  # asked for only now, when a mistake would have been told
        with steps.step("Library") as step:
            image = self._rom_image(facts)
            modules = {} if image else self._modules(facts, survey.has_umqtt(board))
            wanted = self._wanted(modules, held)
            plan = make_plan(wanted, held, self._surplus(held, wanted))
            check_room(plan, facts, _IDENTITY_FILES if reason else 1)
            if image and holds_image(board, image):
                image = None
            step.note = (
                f"{len(plan.writes)} of {len(wanted)} files to copy, "
                f"{plan.size_bytes / 1000:.1f} kB"
            )
            if image:
                step.note += f"; {len(image) / 1000:.1f} kB for the ROMFS"
        for remark in self._remarks:
            steps.say(f"  {remark}")
        names, files = self._unchanged_names(identity, secure)
        config = config_text(
            order.settings, names, identity.config, self._clock_floor, order.profile.journal_bytes
        )
        settings_change = bool(files.writes or config or _obsolete(secure, names))
        changed = bool(image or plan.writes or plan.removes or settings_change or reason)
        if order.dry_run:
            if image:
                steps.say("  would put the library into the board's ROMFS")
            self._describe(plan, files, reason, config)
            return changed
        if reason:
            order.authority.unlock()  # a wrong passphrase shows before anything is copied
        if image:
            self._deploy(image)
        self._copy(plan.without(MAIN) if self._program else plan)
        if reason:
            self._issue(identity, secure)
        elif settings_change:
            self._configure(files, config, secure, names)
        with steps.step("Check") as step:
            checked = {path: sha256(content) for path, content in wanted.items()}
            if self._program:
                del checked[MAIN]
            verify(board, checked)
            step.note = f"{len(checked)} files have the right hash on the board"
        if order.connect:
            self._connect(facts.has_wifi and order.wifi is not None)
        if self._program:
            try_program(board, self._program, steps)
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
            f"/{name}{end}" for name in (*_PROGRAMS, "lib/umqtt/simple.mpy") for end in ("", PART)
        ]
        hashes = {
            **self._board.tree(LIBRARY),
            **self._board.tree(SECURE),
            **self._board.hashes(singles),
        }
        return {path: digest for path, digest in hashes.items() if digest is not None}

    def _reason(self, identity: Held) -> str | None:
        order = self._order
        if order.renew:
            return "to be renewed"
        return reason_for(identity, order.authority, order.settings)

    def _check_wifi(self, facts: Facts, held: dict[str, str | None]) -> None:
        order = self._order
        if facts.has_wifi and order.wifi is None and WIFI not in held and order.connect:
            raise FatalError(
                "the board knows no Wi-Fi yet: add --wifi SSID (or --no-connect to leave it at "
                "that)"
            )

    def _rom_image(self, facts: Facts) -> bytes | None:
        """Return what the board's ROMFS should hold; None if the library goes into `/lib`."""
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
        image = build_image(self._modules(facts, has_umqtt=False))
        rom.check(image)
        return image

    def _modules(self, facts: Facts, has_umqtt: bool) -> dict[str, bytes]:
        """Return the library, compiled, and umqtt.simple if the board has none."""
        sources = board_sources(library_directory())
        if not has_umqtt:
            sources.update(self._umqtt())
        return Compiler(self._order.cache).compile(sources, facts.mpy_version)

    def _wanted(self, modules: dict[str, bytes], held: dict[str, str | None]) -> dict[str, bytes]:
        """Return the files that the board should hold, but for its identity."""
        order, board = self._order, self._board
        wanted = {f"/lib/{name}": content for name, content in modules.items()}
        for name in _PROGRAMS:
            path, content = f"/{name}", self._content(name)
            asked = name in order.programs
            if asked or held.get(path) == sha256(content) or survey.is_blank(board, path):
                wanted[path] = content
            else:
                self._remarks.append(
                    f"{path} is another program and stays (--force-{name[:4]} replaces it)"
                )
        if self._wifi is not None:
            wanted[WIFI] = self._wifi
        return wanted

    def _umqtt(self) -> dict[str, str]:
        if not self._order.dry_run:
            return umqtt_sources(self._order.cache)
        sources = cached_sources(self._order.cache)
        if sources is None:
            self._remarks.append("would download umqtt.simple and write it to /lib/umqtt")
        return sources or {}

    def _content(self, name: str) -> bytes:
        if name == "main.py" and self._program:
            return self._program.content
        return (firmware_directory() / name).read_bytes()

    def _surplus(self, held: dict[str, str | None], wanted: dict[str, bytes]) -> list[str]:
        """Return what has to go: modules of another version (a .py would be taken before our .mpy),
        and parts of files.
        """
        return [
            path for path in held if path.startswith(LIBRARY + "/") and path not in wanted
        ] + leftovers(held)

    def _unchanged_names(
        self, identity: Held, secure: dict[str, str | None]
    ) -> tuple[dict[str, object], Plan]:
        """Return the names for config.json if the certificate stays, and the trust anchors that are
        missing on the board.
        """
        anchors = anchor_files(self._order.anchors(), identity.hashes, der=True)
        current = identity.config if isinstance(identity.config.get("key"), str) else BOARD_NAMES
        names = {**anchors.names, "certificate": current.get("certificate"), "key": current["key"]}
        return names, make_plan(_placed(anchors), secure)

    def _describe(self, plan: Plan, files: Plan, reason: str | None, config: bytes | None) -> None:
        lines = plan.describe()
        if reason:
            lines.append(
                f"{'import the' if self._order.settings.imported else 'issue a'} certificate "
                f"({reason}) and write it and its private key to {SECURE}"
            )
        else:
            lines += files.describe()
        if reason or config:
            lines.append(f"write {SECURE}/{CONFIG}")
        for line in lines:
            self._steps.say(f"  would {line}")

    def _deploy(self, image: bytes) -> None:
        with self._steps.step("ROMFS") as step:
            self._board.deploy_romfs(image)
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

    def _issue(self, identity: Held, secure: dict[str, str | None]) -> None:
        order, board = self._order, self._board
        device_id = order.settings.device_id
        with self._steps.step("Certificate", quiet=True) as step:
            # From here on a run that is cut short is known by its claim, so the next may issue for
            # this id again.
            claim = json.dumps({"client_id": device_id}).encode()
            carry_out(board, Plan({CLAIM: claim}))
            issued = order.authority.issue_device(
                device_id, days=order.certificate_days, renew=True
            )
            ends = f"{issued.certificate.not_valid_after_utc:%Y-%m-%d}"
            anchors = anchor_files(order.anchors(), identity.hashes, der=True)
            private = identity_files(issued, identity.hashes, der=True)
            del issued  # with it goes the key: what is left of it here is what is sent
            names = {**anchors.names, **private.names}
            files = Plan({**_placed(private), **make_plan(_placed(anchors), secure).writes})
            del private
            config = config_text(
                order.settings,
                names,
                identity.config,
                self._clock_floor,
                order.profile.journal_bytes,
            )
            self._put(files, config, secure, names)
            verb = "imported for" if order.settings.imported else "issued to"
            step.note = f"{verb} {device_id}, until {ends}"

    def _configure(
        self,
        files: Plan,
        config: bytes | None,
        secure: dict[str, str | None],
        names: dict[str, object],
    ) -> None:
        with self._steps.step("Settings") as step:
            self._put(files, config, secure, names)
            step.note = f"{self._order.settings.host}:{self._order.settings.port}"

    def _put(
        self,
        files: Plan,
        config: bytes | None,
        secure: dict[str, str | None],
        names: dict[str, object],
    ) -> None:
        """Write files, check them, name them in config.json, and only then remove what it named
        before.
        """
        board = self._board
        carry_out(board, files)
        verify(board, {path: sha256(content) for path, content in files.writes.items()})
        if config is not None:
            carry_out(board, Plan({f"{SECURE}/{CONFIG}": config}))
        board.remove([CLAIM, *_obsolete(secure, names)])

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


def _obsolete(secure: dict[str, str | None], names: dict[str, object]) -> list[str]:
    """Return what an earlier identity has left, its private key for one, once config.json holds
    `names`.
    """
    named = {f"{SECURE}/{name}" for name in named_files(names)}
    return [
        path for path in secure if path == CLAIM or (path.endswith(".der") and path not in named)
    ]


def _placed(files: Files) -> dict[str, bytes]:
    return {f"{SECURE}/{name}": content for name, content in files.content.items()}
