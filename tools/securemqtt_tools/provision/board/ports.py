"""Serial ports: which one the board is on, and why a port cannot be had."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from serial.tools import list_ports  # type: ignore[import-untyped]

from securemqtt_tools.cli import FatalError

# How a board of a family loses a program that nothing interrupts, by the family of its profile.
_WIPES = {
    "rp2": "hold BOOTSEL while you plug it in, and copy flash_nuke.uf2 and then MicroPython's .uf2 "
    "onto the drive that appears",
    "esp32": "esptool --port {port} erase-flash, then put MicroPython on it again",
    "simulated": "end it, and delete its image (securemqtt simboard status names it)",
}
_WIPE = "docs/provisioning.md has the way for each board"


def find_port(usb_ids: Collection[str], title: str) -> str:
    """Return the serial port of the one board with one of these USB ids; FatalError for none and
    for several.

    `usb_ids` are "vendor:product" in hexadecimal, `title` is the board's name, for the message.
    """
    if not usb_ids:
        raise FatalError(f"a {title} is not to be found on USB: name its serial port with --port")
    ports = {
        port.device: f"{port.vid:04x}:{port.pid:04x}"
        for port in list_ports.comports()
        if port.vid is not None
    }
    found: list[str] = sorted(device for device, usb_id in ports.items() if usb_id in usb_ids)
    if len(found) == 1:
        return found[0]
    if found:
        raise FatalError(
            f"{len(found)} boards could be meant, on {', '.join(found)}: choose one with --port"
        )
    others = f" (other devices: {', '.join(sorted(ports))})" if ports else ""
    raise FatalError(
        f"no {title} found on USB{others}: plug it in with a cable that carries data, or name its "
        f"serial port with --port"
    )


def check_port(port: str) -> None:
    """Raise FatalError when `port` is plainly no serial port that we may use."""
    path = Path(port)
    if "://" in port:  # a serial line over the network, as mpremote takes it (rfc2217://…)
        return
    if not path.exists():
        raise FatalError(
            f"there is no serial port {port}: plug the board in, or look for its name with "
            f"`mpremote devs`"
        )
    if not stat.S_ISCHR(path.stat().st_mode):
        raise FatalError(f"{port} is no serial port: look for the board's with `mpremote devs`")
    if not os.access(path, os.R_OK | os.W_OK):
        raise FatalError(
            f"you may not use {port}: run `sudo usermod -aG dialout $USER`, log out and in again"
        )


def refusal(port: str) -> FatalError:
    """Make the error for a port that is there and yet cannot be opened."""
    return FatalError(
        f"{port} is in use by another program: close it (mpremote, Thonny, a serial monitor) and "
        f"try again"
    )


def deafness(port: str, family: str, talks: bool) -> FatalError:
    """Make the error for a board that does not let itself be interrupted.

    `talks`: it prints, so there is a program; else it may be no board at all. `family` is that of
    its profile, "" if that is not known.
    """
    wipe = _WIPES.get(family, _WIPE).format(port=port)
    if talks:
        # a Pico has no reset button, and its port goes with a reset
        reset = (
            ""
            if family == "rp2"
            else "run the same command again and press the board's reset button meanwhile; if that "
            "does not help, "
        )
        return FatalError(
            f"what runs at {port} prints, and Ctrl-C does not end it: {reset}wipe its flash: {wipe}"
        )
    return FatalError(
        f"nothing at {port} answers as MicroPython does: close other programs that use the port, "
        "press the board's reset button, or put MicroPython on it (micropython.org/download); a "
        f"program that Ctrl-C does not end goes when you wipe the flash: {wipe}"
    )
