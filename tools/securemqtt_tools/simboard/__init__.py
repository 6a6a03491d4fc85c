"""The simulated board: real MicroPython on a serial port, with a board's flash, heap, Wi-Fi and
clock.
"""

from .handle import SimulatedBoard

__all__ = ["SimulatedBoard"]
