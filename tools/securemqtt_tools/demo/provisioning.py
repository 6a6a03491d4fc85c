"""Checks: the device gets its identity and its program, in the same way as a user's does."""

from __future__ import annotations

import json
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rich.console import Console

from securemqtt_tools.demo.devices import BoardDevice, Device, ProgramDevice
from securemqtt_tools.demo.environment import BROKER_NAMES, DEVICE_ID, Environment
from securemqtt_tools.demo.failure import Failed
from securemqtt_tools.demo.keysearch import files_with, keys_in, secret_bytes
from securemqtt_tools.demo.programs import Program
from securemqtt_tools.pki.files import write_file
from securemqtt_tools.pki.profiles import DEVICE
from securemqtt_tools.profiles import load_profile
from securemqtt_tools.provision.board.order import Order
from securemqtt_tools.provision.bundle import Settings
from securemqtt_tools.provision.pi.places import LocalDirectory
from securemqtt_tools.provision.pi.provisioning import PiOrder
from securemqtt_tools.provision.steps import Step, Steps
from securemqtt_tools.resources import firmware_directory
from securemqtt_tools.simboard import SimulatedBoard

_PROFILE = "pico_w"
_SSID = "demonstration"
_FLASH = "flash.img"
_BUNDLE = "device"


class ShownSteps(Steps):
    """The steps of provisioning, shown beside the demonstration's own bar in place of lines of
    their own.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(Console(quiet=True))
        self._doing = environment.doing
        self.notes: dict[str, str] = {}

    @contextmanager
    def step(self, title: str, quiet: bool = False) -> Iterator[Step]:
        self._doing(f"provisioning: {title}")
        with super().step(title, quiet) as step:
            yield step
        self.notes[title.partition(" ")[0]] = step.note


def provision_board(environment: Environment) -> str:
    """Start a simulated board with an empty flash, and provision it over its serial port."""
    password = secrets.token_urlsafe(12)
    flash = environment.directory / _FLASH
    hosts = {BROKER_NAMES[0]: "127.0.0.1"}
    board = SimulatedBoard(flash, _PROFILE, ssid=_SSID, wifi_password=password, hosts=hosts)
    environment.at_end(board.stop)
    board.start()
    environment.at_end(
        lambda: write_file(environment.directory / "device.log", board.console().encode())
    )
    order = Order(
        profile=load_profile(_PROFILE),
        settings=Settings(DEVICE_ID, BROKER_NAMES[0], environment.device_line.port),
        authority=environment.authority,
        cache=environment.cache,
        port=board.port,
        wifi=lambda: json.dumps({"ssid": _SSID, "password": password}).encode(),
    )
    notes = _provision(environment, BoardDevice(board, order))
    return f"{notes['Copy']} and a certificate; from the board: {notes['Connection']}"


def provision_program(environment: Environment) -> str:
    """Make a bundle for the board's program on CPython."""
    bundle = environment.directory / _BUNDLE
    order = PiOrder(
        Settings(DEVICE_ID, BROKER_NAMES[1], environment.device_line.port),
        environment.authority,
        LocalDirectory(bundle),
    )
    program = Program(
        "the device's program",
        firmware_directory() / "main.py",
        bundle,
        environment.directory / "device.log",
    )
    environment.at_end(program.stop)
    return _provision(environment, ProgramDevice(program, order))["Bundle"]


def provision_again(environment: Environment) -> str:
    """Provision once more: nothing may change."""
    steps = ShownSteps(environment)
    if environment.device.provision(steps):
        raise Failed(
            "it did: " + "; ".join(f"{title}: {note}" for title, note in steps.notes.items())
        )
    return steps.notes.get("Check") or steps.notes["Contents"]


def search_board_key(environment: Environment) -> str:
    """Look for the board's private key: in its flash it must be found, anywhere else it must
    not.
    """
    environment.device.check()
    flash = environment.directory / _FLASH
    public_key = environment.authority.inventory.entries(DEVICE, DEVICE_ID)[
        -1
    ].certificate.public_key()
    keys = keys_in(flash.read_bytes(), public_key)
    if len(keys) != 1:
        raise Failed("the search does not find it in the board's own flash")
    return _search(environment, keys.pop(), flash) + "only its simulated flash holds it"


def search_program_key(environment: Environment) -> str:
    """Look for the device's private key: in its bundle it must be found, for its owner only, and
    anywhere else it must not.
    """
    path = environment.directory / _BUNDLE / "device.key"
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode != stat.S_IRUSR | stat.S_IWUSR:
        raise Failed(f"others may read it: its mode is {mode:o}")
    key = load_pem_private_key(path.read_bytes(), None)
    return _search(environment, secret_bytes(key), path) + "only its bundle holds it, mode 600"


def _search(environment: Environment, secret: bytes, home: Path) -> str:
    found = set(files_with(secret, environment.directory))
    if home not in found:
        raise Failed("the search does not find it where it is")
    if found != {home}:
        raise Failed(
            f"it is in "
            f"{', '.join(str(path.relative_to(environment.directory)) for path in found - {home})}"
        )
    return f"of {sum(path.is_file() for path in environment.directory.rglob('*'))} files here, "


def _provision(environment: Environment, device: Device) -> dict[str, str]:
    steps = ShownSteps(environment)
    if not device.provision(steps):
        raise Failed("there was nothing to do on a new device")
    environment.device = device
    return steps.notes
