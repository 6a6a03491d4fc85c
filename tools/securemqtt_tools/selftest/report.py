"""What is sent in: JSON for programs, Markdown for people; no secret, no name of a network, no
address, and a serial number only if it was asked for.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import securemqtt
from securemqtt.platform import escaped
from securemqtt_tools.provision.board.survey import Facts

HELD = "held"
FAILED = "did not hold"
MEMORY = "too little memory"
OVERDUE = "not done in time"
NOT_RUN = "not run"
_MEMORY_ERRORS = ("MemoryError", "OutOfMemory")
_NO_MEMORY = re.compile("memory allocation failed|OutOfMemory|out of memory|MemoryError")
_FORMAT = 1
# What stands for this machine's address, which an error may name.
_BROKER = "BROKER"
# What else may be one: a version has three numbers, or other letters around it.
_ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)")
# A port stands behind an address or the word: `BROKER:8883`, `('BROKER', 8883)`, `port 8883`.
_PORT = re.compile(r"\b(BROKER|ADDRESS|[Pp]ort)((?:\\?['\"])?[:,\]= ]{1,3})\d{1,5}\b")
# The systems on which MicroPython runs beside others, as a simulated board's does: no chip's name.
_COMPUTERS = ("linux", "darwin", "win32")
SIMULATED = "a simulated board"
NOT_TO_BE_SENT = "this was a simulated board: its report is not one to send in"


@dataclass
class Result:
    """What came of a scenario."""

    scenario: str
    outcome: str
    seconds: float = 0.0
    checks: list[str] = field(default_factory=list)
    what: str = ""
    traceback: str = ""
    log: list[str] = field(default_factory=list)
    heap_free_before: int | None = None
    heap_free_after: int | None = None


def outcome_of(said: Mapping[str, Any]) -> str:
    """Return in a word or two what the board's own account of a scenario amounts to."""
    if said["held"]:
        return HELD
    error = said.get("error", "")
    words = [said.get("traceback", ""), *said["log"]]
    if error in _MEMORY_ERRORS or any(_NO_MEMORY.search(text) for text in words):
        return MEMORY
    return OVERDUE if error == "Overdue" else FAILED


class Report:
    """The account of a run, as it grows."""

    def __init__(self, begun: datetime) -> None:
        self.begun = begun
        self.board: dict[str, Any] = {}
        self.figures: dict[str, Any] = {}
        self.results: list[Result] = []
        self.simulated = False
        self.broken_off = ""
        self._host = {
            "securemqtt": securemqtt.__version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        }
        self._hidden: dict[str, str] = {}

    def hide(self, address: str) -> None:
        """Leave an address of this machine, or of the board, out of what was said."""
        self._hidden[address] = _BROKER

    def note_broker(self, engine: str) -> None:
        """Note which broker the board was tried with."""
        self._host["broker"] = engine

    def describe_board(self, facts: Facts, more: Mapping[str, Any]) -> None:
        """Note what the board is, and by its own word for the system whether it is a real one."""
        self.simulated = more.get("platform") in _COMPUTERS
        self.board = {
            "simulated": self.simulated,
            "machine": facts.machine,
            "micropython": ".".join(map(str, facts.version)),
            "mpy_version": facts.mpy_version,
            "flash_free_bytes": facts.free_bytes,
            "wifi": facts.has_wifi,
            **more,
        }

    def as_json(self) -> str:
        """Return the report for programs."""
        content = {
            "format": _FORMAT,
            "begun": self.begun.isoformat(timespec="seconds"),
            "host": self._host,
            "board": self.board,
            "figures": self.figures,
            "results": [asdict(one) for one in self.results],
            "broken_off": self.broken_off,
        }
        return self._shown(json.dumps(content, indent=2)) + "\n"

    def as_markdown(self) -> str:
        """Return the report for people."""
        held = sum(one.outcome == HELD for one in self.results)
        machine = escaped(str(self.board.get("machine", "a board")))
        lines = [
            f"# securemqtt on {SIMULATED} ({machine})"
            if self.simulated
            else f"# securemqtt on {machine}",
            "",
            f"{held} of {len(self.results)} scenarios held, {self.begun:%Y-%m-%d %H:%M} UTC.",
        ]
        if self.simulated:
            lines += ["", f"{NOT_TO_BE_SENT[0].upper()}{NOT_TO_BE_SENT[1:]}."]
        if self.broken_off:
            lines += ["", f"Broken off: {escaped(self.broken_off)}"]
        for title, facts in (
            ("Board", self.board),
            ("Host", self._host),
            ("Figures", self.figures),
        ):
            lines += ["", f"## {title}", "", "| | |", "|---|---|"]
            lines += [
                f"| {name.replace('_', ' ')} | {escaped(str(value))} |"
                for name, value in facts.items()
            ]
        lines += ["", "## Scenarios", "", "| scenario | outcome | checks | s | heap free after |"]
        lines += ["|---|---|---|---|---|"]
        for one in self.results:
            after = "" if one.heap_free_after is None else one.heap_free_after
            lines.append(
                f"| {one.scenario} | {one.outcome} | {len(one.checks)} | {one.seconds:.1f} | "
                f"{after} |"
            )
        for one in self.results:
            if one.outcome in (HELD, NOT_RUN):
                continue
            last = f"The last check that held: {escaped(one.checks[-1])}." if one.checks else ""
            lines += ["", f"### {one.scenario}: {one.outcome}", "", escaped(one.what), "", last]
            if one.traceback:
                where = map(escaped, one.traceback.strip().split("\n"))
                lines += ["", "```", *where, "```"]
            if one.log:
                logged = map(escaped, one.log)
                lines += ["", "What the library logged last:", "", "```", *logged, "```"]
        return self._shown("\n".join(lines)) + "\n"

    def _shown(self, text: str) -> str:
        for address, word in self._hidden.items():
            text = re.sub(rf"(?<![\w.:]){re.escape(address)}(?!\.?\d)", word, text)
        return _PORT.sub(r"\1\2PORT", _ADDRESS.sub("ADDRESS", text))
