"""What the board's own modules (rom/) ask of the simulator, by verb."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .board import Board

_FREQUENCIES = {"esp32": 160_000_000}
_USUAL_FREQUENCY = 125_000_000


class RequestAnswers:
    """Answers the requests of one run of the interpreter."""

    def __init__(self, board: Board) -> None:
        self._board = board
        radio = board.radio
        self._verbs: dict[str, Callable[..., Any]] = {
            "hello": self._hello,
            "started": board.started,
            "formatted": self._formatted,
            "soft_reset": board.soft_reset,
            "reset": board.reset,
            "deepsleep": board.sleep,
            "power_cut": board.power_cut,
            "binary": board.expect_binary,
            "set_clock": board.clock.set,
            "watchdog": board.watchdog.start,
            "feed": board.watchdog.feed,
            "wifi_state": radio.describe,
            "wifi_active": radio.set_active,
            "wifi_join": radio.join,
            "wifi_leave": radio.leave,
            "wifi_scan": radio.scan,
        }
        self._slow_verbs: dict[str, Callable[..., Awaitable[Any]]] = {
            "booted": board.booted,
            "resolve": radio.resolve,
        }

    async def answer(self, verb: str, arguments: list[Any]) -> Any:
        """Do what the board asks and return the value; OSError to refuse."""
        if verb in self._slow_verbs:
            return await self._slow_verbs[verb](*arguments)
        return self._verbs[verb](*arguments)

    def _hello(self) -> dict[str, Any]:
        board = self._board
        profile = board.profile
        return {
            "image": str(board.flash.image.resolve()),
            "counters": str(board.flash.counters.resolve()),
            "block_bytes": profile.block_bytes,
            "program_bytes": profile.program_bytes,
            "machine": profile.machine[0],
            "sysname": profile.family,
            "epoch_year": profile.epoch_year,
            "wifi_states": board.radio.states,
            "frequency": _FREQUENCIES.get(profile.family, _USUAL_FREQUENCY),
            "unique_id": hashlib.sha256(str(board.flash.image.resolve()).encode()).hexdigest()[:16],
            "reset_cause": board.reset_cause,
            "run_main": board.runs_main,
            "own_prompt": board.options.own_prompt,
        }

    def _formatted(self) -> None:
        self._board.formats += 1
