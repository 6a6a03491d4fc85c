"""The device of the demonstration: a simulated Pico W or, where there is no MicroPython, a CPython
process with the same program.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from securemqtt_tools.cli import FatalError
from securemqtt_tools.demo.programs import Program
from securemqtt_tools.provision.board.order import Order
from securemqtt_tools.provision.board.provisioning import provision_board
from securemqtt_tools.provision.pi.provisioning import PiOrder, provision_pi
from securemqtt_tools.provision.steps import Steps
from securemqtt_tools.simboard import SimulatedBoard


class Device(ABC):
    """What runs firmware/main.py."""

    title: str

    @abstractmethod
    def provision(self, steps: Steps) -> bool:
        """Give it its identity, and its program if it has none; tell whether there was anything
        to change. Raise FatalError.
        """

    @abstractmethod
    def power_off(self) -> None:
        """Take its power, if it has it: nobody is told."""

    @abstractmethod
    def power_on(self) -> None:
        """Give it its power: it starts from cold."""

    @abstractmethod
    def text(self) -> str:
        """Return all that it has printed so far."""

    @abstractmethod
    def check(self) -> None:
        """Raise Failed or FatalError when it has ended."""


class BoardDevice(Device):
    """A simulated board."""

    title = "the board"

    def __init__(self, board: SimulatedBoard, order: Order) -> None:
        self.board = board
        self._order = order

    def provision(self, steps: Steps) -> bool:
        try:
            return provision_board(self._order, steps)
        except FatalError:
            self.check()  # a board that has ended itself was not unplugged
            raise

    def power_off(self) -> None:
        self.board.power_cut()

    def power_on(self) -> None:
        self.board.power_on()

    def text(self) -> str:
        return self.board.console()

    def check(self) -> None:
        self.board.status()


class ProgramDevice(Device):
    """A CPython process."""

    title = "the device"

    def __init__(self, program: Program, order: PiOrder) -> None:
        self._program = program
        self._order = order

    def provision(self, steps: Steps) -> bool:
        return provision_pi(self._order, steps)

    def power_off(self) -> None:
        self._program.stop()

    def power_on(self) -> None:
        self._program.start()

    def text(self) -> str:
        return self._program.text()

    def check(self) -> None:
        self._program.check()
