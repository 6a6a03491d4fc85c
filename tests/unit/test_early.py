"""How long a message waits for its subscription."""

from securemqtt.early import Early
from securemqtt.messages import Message


def test_only_the_first_connection_has_messages_wait() -> None:
    message = Message("a", b"1", 1)
    early = Early()
    assert not early.may_wait(message, 0)
    early.begin(0)  # with no session of before
    early.begin(5000)
    assert early.may_wait(message, 4999) and not early.may_wait(message, 5000)
    early.begin(25000)  # lost and made again: by now the program has made its subscriptions
    assert not early.may_wait(message, 21000)


def test_what_waits_is_overdue_once_the_program_leaves() -> None:
    message = Message("a", b"1", 1)
    early = Early()
    early.begin(5000)
    early.keep(message)
    assert early.overdue(4999) is None
    early.end()
    assert early.overdue(4999) is message
