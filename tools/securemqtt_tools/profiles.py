"""Board profiles: what is known about each kind of board, read from `boards/*.toml`.

The keys are explained in `boards/pico_w.toml`. A profile is checked when it is read; a key that
this version does not know is a mistake (usually a misspelling), not something to pass over.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from securemqtt_tools.cli import FatalError
from securemqtt_tools.resources import boards_directory

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

FAMILIES = ("rp2", "esp32", "simulated", "raspberry_pi")
CERTIFICATE_FORMATS = ("der", "pem")
# What the journal counts in.
_JOURNAL_UNIT_BYTES = 4096

_COMMON_KEYS: dict[str, type] = {
    "name": str,
    "family": str,
    "machine": list,
    "notes": str,
    "certificates.format": str,
}
_BOARD_KEYS: dict[str, type] = {
    "usb.ids": list,
    "flash.filesystem_bytes": int,
    "flash.block_bytes": int,
    "flash.program_bytes": int,
    "heap.typical_bytes": int,
    "mpy.arch": str,
    "clock.starts": datetime,
    "clock.epoch_year": int,
    "clock.survives_reset": bool,
    "wifi.reconnects": bool,
    "firmware.umqtt_frozen": bool,
}


@dataclass(frozen=True)
class Profile:
    """What is known about one kind of device. What concerns boards only is empty for a computer."""

    key: str  # the file's name without .toml: what the user types
    name: str
    family: str
    machine: tuple[str, ...]  # the usual firmware's name first, then patterns
    notes: str
    certificate_format: str
    usb_ids: tuple[str, ...] = ()
    filesystem_bytes: int = 0
    block_bytes: int = 0
    program_bytes: int = 0
    heap_bytes: int = 0
    mpy_arch: str = ""
    clock_start: datetime | None = None
    epoch_year: int = 1970
    clock_survives_reset: bool = False
    wifi_reconnects: bool = False
    umqtt_frozen: bool = False

    @property
    def is_board(self) -> bool:
        """Return True if this is a board with a serial line and MicroPython, not a computer."""
        return self.family != "raspberry_pi"

    @property
    def journal_bytes(self) -> int:
        """Return how large the durable outbox may grow: a sixteenth of the file system, in whole
        blocks, and at least the 32 KiB that it needs.
        """
        return max(
            self.filesystem_bytes // 16 // _JOURNAL_UNIT_BYTES * _JOURNAL_UNIT_BYTES,
            8 * _JOURNAL_UNIT_BYTES,
        )

    def matches(self, machine: str) -> bool:
        """Return True if a board that calls itself `machine` (sys.implementation._machine) is of
        this kind.
        """
        return any(fnmatchcase(machine, pattern) for pattern in self.machine)


def profile_names() -> list[str]:
    """Return the names of all profiles, in alphabetical order."""
    return sorted(path.stem for path in boards_directory().glob("*.toml"))


def load_profile(name: str) -> Profile:
    """Read the profile `name`, such as "pico_w", or the file if `name` ends in ".toml".

    Raises:
        FatalError: there is no such profile, or the file is not a valid one.
    """
    path = Path(name) if name.endswith(".toml") else boards_directory() / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FatalError(
            f"no board profile {name!r} ({error.strerror}); there are: {', '.join(profile_names())}"
        ) from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FatalError(f"{path}: not valid TOML: {error}") from None
    return _profile(path, _flatten(table))


def load_all() -> list[Profile]:
    """Read every profile that comes with the tools."""
    return [load_profile(name) for name in profile_names()]


def profiles_of(machine: str) -> list[Profile]:
    """Return the profiles whose pattern fits a board that calls itself `machine`: usually one, none
    if unknown.
    """
    return [profile for profile in load_all() if profile.matches(machine)]


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _profile(path: Path, values: dict[str, Any]) -> Profile:
    expected = dict(_COMMON_KEYS)
    if values.get("family") != "raspberry_pi":
        expected.update(_BOARD_KEYS)
    for key in values.keys() - expected.keys():
        raise FatalError(f"{path}: unknown key {key!r}; known here: {', '.join(sorted(expected))}")
    for key, kind in expected.items():
        if key not in values:
            raise FatalError(f"{path}: the key {key!r} is missing")
        if type(values[key]) is not kind:
            raise FatalError(f"{path}: {key!r} must be {_WORDS[kind]}, not {values[key]!r}")
    _check_choice(path, "family", values["family"], FAMILIES)
    _check_choice(path, "certificates.format", values["certificates.format"], CERTIFICATE_FORMATS)
    profile = Profile(
        key=path.stem,
        name=values["name"],
        family=values["family"],
        machine=tuple(values["machine"]),
        notes=values["notes"].strip(),
        certificate_format=values["certificates.format"],
    )
    return _with_board_values(path, profile, values) if profile.is_board else profile


def _with_board_values(path: Path, profile: Profile, values: dict[str, Any]) -> Profile:
    for key in (
        "flash.filesystem_bytes",
        "flash.block_bytes",
        "flash.program_bytes",
        "heap.typical_bytes",
    ):
        if values[key] <= 0:
            raise FatalError(f"{path}: {key!r} must be above 0, not {values[key]}")
    for larger, smaller in (("filesystem_bytes", "block_bytes"), ("block_bytes", "program_bytes")):
        if values[f"flash.{larger}"] % values[f"flash.{smaller}"]:
            raise FatalError(f"{path}: 'flash.{larger}' must be a multiple of 'flash.{smaller}'")
    if not profile.machine or "*" in profile.machine[0]:
        raise FatalError(
            f"{path}: 'machine' must begin with the name that the usual firmware gives the board"
        )
    _check_choice(path, "clock.epoch_year", values["clock.epoch_year"], (1970, 2000))
    start: datetime = values["clock.starts"]
    return replace(
        profile,
        usb_ids=tuple(values["usb.ids"]),
        filesystem_bytes=values["flash.filesystem_bytes"],
        block_bytes=values["flash.block_bytes"],
        program_bytes=values["flash.program_bytes"],
        heap_bytes=values["heap.typical_bytes"],
        mpy_arch=values["mpy.arch"],
        clock_start=start if start.tzinfo else start.replace(tzinfo=timezone.utc),
        epoch_year=values["clock.epoch_year"],
        clock_survives_reset=values["clock.survives_reset"],
        wifi_reconnects=values["wifi.reconnects"],
        umqtt_frozen=values["firmware.umqtt_frozen"],
    )


def _check_choice(path: Path, key: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise FatalError(
            f"{path}: {key!r} must be one of {', '.join(map(str, choices))}, not {value!r}"
        )


_WORDS = {
    str: "a string",
    list: "a list",
    int: "a whole number",
    bool: "true or false",
    datetime: "a date with time",
}
