"""Serial ports: which one the board is on, and why a port cannot be had."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from serial.tools import list_ports  # type: ignore[import-untyped]

from securemqtt_tools.cli import FatalError


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
