"""The library in a board's ROMFS: the image under MicroPython itself, and provisioning with a
stand-in for the firmware's part of it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt_tools.provision.board.compiler import Compiler
from securemqtt_tools.provision.board.files import write
from securemqtt_tools.provision.board.library import board_sources, library_directory
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.provision.board.romfs import build_image, deploy_image
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import Outcome, Provisioner, contents
from support.boards.simboard import mpremote, require_micropython
from support.interpreters.micropython import (
    CACHE,
    micropython_command,
    mpy_version,
    umqtt_directory,
)
from support.network.net import wait_until
from support.speed import seconds

FIRMWARE = Path(__file__).with_name("romfs_firmware.py")
_PROFILE = "pico_2_w"
_READY = "ROMFS is ready"
_MOUNT = """\
import sys, vfs
with open({image!r}, "rb") as file:
    vfs.mount(vfs.VfsRom(file.read()), "/rom")
sys.path[:] = ["/rom/lib", {umqtt!r}]
import securemqtt
print(securemqtt.__file__)
securemqtt.Client(client_identity=1)
"""


@pytest.fixture
def rom_board() -> Iterator[SimulatedBoard]:
    """Run a simulated board whose firmware has a ROMFS. That is in its heap, so this is the board
    with the largest.
    """
    require_micropython()
    with SimulatedBoard(profile=_PROFILE) as board:
        with Board(board.port) as link:
            write(link, "/boot.py", FIRMWARE.read_bytes())
            link.soft_reset()
        yield board


def provision(
    provisioner: Provisioner, board: SimulatedBoard, device_id: str, *options: str
) -> Outcome:
    """Run the command `provision` for a board of that kind, and wait until the board, which it has
    restarted, has mounted its ROMFS: a Ctrl-C before that would stop the stand-in.
    """
    outcome = provisioner.run(_PROFILE, device_id, "--port", board.port, *options)
    wait_until(lambda: _READY in board.console().rpartition("soft reboot")[2], seconds(20), _READY)
    return outcome


def test_an_image_mounts_under_micropython_and_the_library_is_imported_from_it(
    tmp_path: Path,
) -> None:
    modules = Compiler(CACHE).compile(board_sources(library_directory()), mpy_version())
    image = tmp_path / "image"
    image.write_bytes(build_image(modules))
    program = _MOUNT.format(image=str(image), umqtt=str(umqtt_directory()))
    done = subprocess.run(
        [*micropython_command(), "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds(20),
        check=False,
    )
    first, *_, last = done.stdout.splitlines()
    assert first == "/rom/lib/securemqtt/__init__.mpy"
    assert last.startswith("UsageError: ")


def test_the_library_goes_into_the_romfs_and_stays_there(
    provisioner: Provisioner, rom_board: SimulatedBoard
) -> None:
    provision(provisioner, rom_board, "rom", *provisioner.wifi, "--no-connect")
    assert "/lib/securemqtt/__init__.mpy" in contents(rom_board)
    outcome = provision(provisioner, rom_board, "rom", "--romfs")
    assert (outcome.status, outcome.err) == (0, "")
    assert "message acknowledged" in outcome.out
    assert [path for path in contents(rom_board) if path.startswith("/lib/securemqtt")] == []
    said = mpremote(rom_board, "exec", "import securemqtt; print(securemqtt.__file__)")
    assert said == "/rom/lib/securemqtt/__init__.mpy\n"
    held = contents(rom_board)
    outcome = provision(provisioner, rom_board, "rom")
    assert "there was nothing to change" in outcome.out
    assert contents(rom_board) == held


def test_files_of_the_users_own_in_the_romfs_stay(
    provisioner: Provisioner, rom_board: SimulatedBoard
) -> None:
    with Board(rom_board.port) as link:
        deploy_image(link, build_image({"font.mpy": b"the user's own"}))
        link.soft_reset()
    outcome = provision(provisioner, rom_board, "rom-own", *provisioner.wifi, "--romfs")
    assert outcome.said("ROMFS holds lib/font.mpy", "leave out --romfs")


def test_a_board_without_romfs(provisioner: Provisioner, simulated_board: SimulatedBoard) -> None:
    outcome = provisioner.board(simulated_board, "no-rom", *provisioner.wifi, "--romfs")
    assert outcome.said("firmware has no ROMFS", "leave out --romfs")
