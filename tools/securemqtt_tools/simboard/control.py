"""The line to a running simulator: JSON, one request and one answer per line, on a Unix socket of
the owner's.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from securemqtt_tools.cli import FatalError

from .board import Board

_ANSWER_TIMEOUT_S = 30.0
_LIMIT = 8 * 1024 * 1024


class ControlServer:
    """Does to the board what is asked on the socket."""

    def __init__(self, board: Board, stop: Callable[[], None]) -> None:
        self._board = board
        self._stop = stop
        self._verbs: dict[str, Callable[..., Any]] = {
            "status": self._status,
            "wifi": board.radio.switch,
            "hosts": lambda hosts: board.radio.hosts.update(hosts),
            "reset": board.reset,
            "soft_reset": board.soft_reset,
            "power_cut": board.power_cut,
            "power_cut_after": board.flash.cut_after,
            "power_on": board.power_on,
            "flash_failing": board.flash.fail,
            "console": self._console,
            "find": self._find,
            "stop": stop,
        }

    async def start(self, path: Path) -> asyncio.Server:
        """Listen at `path`, which only its owner can use."""
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._talk, path)
        finally:
            os.umask(mask)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request = json.loads(line)
            try:
                answer = {"value": self._verbs[request["do"]](**request["with"])}
            except (KeyError, TypeError) as error:
                answer = {"error": f"the simulator does not understand {request}: {error}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _status(self) -> dict[str, Any]:
        board = self._board
        return {
            "port": board.port,
            "profile": board.profile.key,
            "image": str(board.flash.image),
            "powered": board.powered,
            "running": board.running,
            "boots": board.boots,
            "formats": board.formats,
            "printed_bytes": board.log.total,
            "access_point": board.radio.access_point,
            "wifi": board.radio.describe()["state"],
            "flash": asdict(board.flash.stats()),
        }

    def _console(self, since: int) -> str:
        return self._board.log.since(since).decode(errors="replace")

    def _find(self, text: str, since: int) -> int | None:
        return self._board.log.find(text.encode(), since)


class ControlClient:
    """Asks a running simulator. FatalError when there is none, or it does not answer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Have `verb` done; return the value. Blocks for at most 30 s."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_ANSWER_TIMEOUT_S)
                connection.connect(str(self._path))
                connection.sendall(json.dumps({"do": verb, "with": arguments}).encode() + b"\n")
                with connection.makefile("rb") as answers:
                    line = answers.readline(_LIMIT)
        except OSError as error:
            reason = error.strerror or error
            raise FatalError(
                f"no simulated board answers at {self._path} ({reason}): start one with "
                f"securemqtt simboard run"
            ) from None
        if not line:
            raise FatalError("the simulated board has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise FatalError(answer["error"])
        return answer["value"]
