"""The log: one function gets every line, on both interpreters."""

import gc

from securemqtt import log_to
from securemqtt.log import log, printable
from support.interpreters.either import cpython_only, micropython_only


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
    assert printable("\x00\t\r\x7f\x80\xad") == "\\x00\\x09\\x0d\\x7f\\x80\\xad"


def test_what_turns_the_direction_of_writing_or_cannot_be_seen_is_shown() -> None:
    for first, last in (
        (0x61C, 0x61C),
        (0x180E, 0x180E),
        (0x200B, 0x200F),
        (0x2028, 0x202E),
        (0x2060, 0x206F),
        (0xFEFF, 0xFEFF),
        (0xFFF9, 0xFFFB),
        (0xE0000, 0xE0FFF),
    ):
        for code in (first, last):
            written = ("\\u{:04x}" if code < 0x10000 else "\\U{:08x}").format(code)
            assert printable("on" + chr(code) + "off") == "on" + written + "off"
        # What lies beside may be anybody's writing.
        for code in (first - 1, last + 1):
            assert printable(chr(code)) == chr(code)


@cpython_only  # MicroPython has no such table
def test_unicodes_own_table_has_nothing_more() -> None:
    from unicodedata import category

    # Signs that enclose the number behind them, and what joins others within a script.
    seen = {0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    for first, last in ((0x600, 0x605), (0x13430, 0x1345F), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A)):
        seen.update(range(first, last + 1))
    for code in range(0x110000):
        if category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and code not in seen:
            assert printable(chr(code)) != chr(code), hex(code)


def test_a_text_is_cut_where_it_was_asked_to_be() -> None:
    assert printable("x" * 201) == "x" * 200 + "…"
    assert printable("x" * 201, 201) == "x" * 201
    assert printable("\n" * 9, 2) == "\\x0a\\x0a…"


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
