"""The log: one function gets every line, on both interpreters."""

import gc

from securemqtt import log_to
from securemqtt.log import log, printable
from support.interpreters.either import micropython_only


def test_one_function_gets_every_line_and_takes_the_place_of_the_one_before() -> None:
    first, second = [], []
    log_to(lambda level, text: first.append((level, text)))
    log("info", "a")
    log_to(lambda level, text: second.append((level, text)))
    log("debug", "b")
    log("error", "c")
    log_to(lambda level, text: None)
    log("warning", "d")
    assert first == [("info", "a")]
    assert second == [("debug", "b"), ("error", "c")]


def test_a_line_is_one_line_whoever_wrote_it() -> None:
    told = []
    log_to(lambda level, text: told.append(text))
    log("info", "the outbox in /a\n/\x1b[2J\x9fé" + chr(0xDC80))
    log("info", "")
    log_to(None)
    assert told == ["the outbox in /a\\x0a/\\x1b[2J\\x9fé\\udc80", ""]


def test_an_outsiders_characters_are_shown() -> None:
    assert printable("a\x1b[2J\x9f\né") == "a\\x1b[2J\\x9f\\x0aé"


@micropython_only  # CPython does not say
def test_an_outsiders_characters_leave_nothing_in_memory() -> None:
    before = used()
    for first in range(40):
        # As codes: MicroPython's `chr` would itself keep what it returns.
        text = bytes(
            byte
            for n in range(first * 100, first * 100 + 100)
            for byte in (0xE4 + n // 4096, 0x80 + n // 64 % 64, 0x80 + n % 64)
        ).decode()
        assert printable(text) == text
    del text
    assert used() - before < 1000


def used() -> int:
    gc.collect()
    return gc.mem_alloc()


def test_a_function_that_fails_ends_nothing() -> None:
    seen = []

    def fail(level: str, text: str) -> None:
        seen.append(text)
        raise OSError(28)

    log_to(fail)
    log("info", "a")
    log("info", "b")
    log_to(lambda level, text: None)
    assert seen == ["a", "b"]
