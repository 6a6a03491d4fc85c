"""An event loop in a thread of its own, for servers that run beside a program that waits for
them: the demonstration's, and those of the tests.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from securemqtt_tools.waiting import result_of

T = TypeVar("T")

# Ample for a Pi that has other things to do.
_CALL_S = 120


class Background:
    """The loop and its thread; all that runs in it is cancelled at the end of the `with` block."""

    def __enter__(self) -> Background:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the loop, and wait until it is done; TimeoutError after 120 s.

        Whenever Ctrl-C strikes, nothing is left that waits to be awaited.
        """
        done: Future[None] = Future()

        def work() -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001  (raised where it was called)
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(work)
        result_of(done, _CALL_S)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its value; TimeoutError after 120 s."""
        return result_of(asyncio.run_coroutine_threadsafe(work, self._loop), _CALL_S)


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
