"""The log: one function gets every line, on both interpreters."""

from securemqtt import log_to
from securemqtt._compat import log


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
