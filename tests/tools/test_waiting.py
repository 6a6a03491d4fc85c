"""Waiting for another thread: Ctrl-C at any step of it is a KeyboardInterrupt, and nothing else."""

from __future__ import annotations

import concurrent.futures._base
import sys
import threading
from concurrent.futures import Future
from types import FrameType
from typing import Any

import pytest

from securemqtt_tools import waiting
from securemqtt_tools.waiting import result_of
from support.speed import seconds

_FILES = {threading.__file__, concurrent.futures._base.__file__, waiting.__file__}


def _interrupted_at(step: int) -> bool:
    """Wait, with Ctrl-C before the instruction of this number; False if there are not so many."""
    future: Future[int] = Future()
    begun = threading.Event()
    threading.Thread(target=lambda: (begun.wait(seconds(20)), future.set_result(7))).start()
    left = step

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in _FILES:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                raise KeyboardInterrupt
        if step - left == 60:  # it has begun to wait, whichever way
            begun.set()
        return trace

    sys.settrace(trace)
    try:
        assert result_of(future, seconds(20)) == 7
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
        begun.set()
    return False


def test_ctrl_c_at_any_step_stays_one() -> None:
    step = 0
    while step < 150 and _interrupted_at(step):
        step += 1
    assert step > 30


def test_what_was_raised_is_raised() -> None:
    future: Future[int] = Future()
    future.set_exception(OSError("no"))
    with pytest.raises(OSError, match="no"):
        result_of(future, 1)


def test_too_late() -> None:
    with pytest.raises(TimeoutError, match="not done within 0 s"):
        result_of(Future(), 0)
