"""What a program is told of, and that none of its functions that raises ends the client; over a
connection in memory, see support/models/history.py.
"""

import time

from securemqtt import log_to
from securemqtt.errors import OutboxFull
from securemqtt.platform import unix_time
from support.interpreters.either import scratch, write
from support.models.history import MAX_MESSAGES, History

_ALL = 1 << 30
_DAY_MS = 86400000


def _fail(*arguments: object) -> None:
    raise OSError(28)


def _quiet(level: str, text: str) -> None:
    pass


def _delivers(history: History) -> bool:
    """Return True if the client carries a message to its broker still."""
    delivery = history.client.publish("c/1", b"x")
    _serve(history)
    return delivery.acknowledged


def _serve(history: History, hands_out: bool = True) -> None:
    """Let network and broker do all that they can; time passes where the client waits for it."""
    for _ in range(20):
        history.carry(_ALL, _ALL)
        while history.broker.waiting:
            history.answer(0)
        if hands_out:
            history.client.poll()
        else:
            history.client.flush(0)
        history.pass_time(130000 if history.client.state == "waiting" else 1)


class _Watchdog:
    """A hardware watchdog that can fail."""

    def __init__(self) -> None:
        self.fed = 0
        self.error = None

    def feed(self) -> None:
        if self.error is not None:
            raise self.error
        self.fed += 1


def test_no_function_of_the_programs_that_raises_ends_the_client() -> None:
    history = History(1)
    try:
        client = history.client
        client.on_state(_fail)
        client.on_error(_fail)
        log_to(_fail)
        history.come_to_rest()
        history.lose(0)
        history.turn()
        assert client.last_error is not None
        assert _delivers(history)
        assert client.connected
    finally:
        log_to(_quiet)
        history.close()


def test_of_changes_of_state_that_nobody_waits_for_the_last_ones_are_kept() -> None:
    with History(1) as history:
        told = []
        history.client.on_state(told.append)
        for _ in range(30):
            history.lose(0)
            _serve(history, hands_out=False)
        assert history.client.stats["connects"] >= 30
        history.client.poll()
        assert len(told) == 20
        assert told[-3:] == ["waiting", "connecting", "connected"]


def test_a_log_that_publishes_meets_a_full_outbox_and_goes_on_afterwards() -> None:
    history = History(1)
    said, refused = [], []

    def publish(level: str, text: str) -> None:
        said.append(text)
        try:
            history.client.publish("c/log", text)
        except OutboxFull as error:
            refused.append(error)
            raise

    try:
        history.come_to_rest()
        history.reach(False)
        history.lose(0)
        log_to(publish)
        for _ in range(3 * MAX_MESSAGES):
            history.pass_time(200000)
            history.client.poll()
        # On a board a log function interrupts the client itself: it is told later.
        assert refused or history.client.stats["dropped"]
        # each line once: what is logged while the function runs is not given to it
        assert len(said) <= 3 * MAX_MESSAGES * 2
        log_to(_quiet)
        history.reach(True)
        _serve(history)
        assert history.client.connected
        assert not history.client.pending
    finally:
        log_to(_quiet)
        history.close()


def test_what_is_logged_while_the_log_function_runs_is_not_given_to_it() -> None:
    from securemqtt.log import log, log_exception

    said = []

    def say(level: str, text: str) -> None:
        said.append(text)
        log("info", "again " + text)
        log_exception(ValueError("again"))

    log_to(say)
    try:
        log("info", "a")
        log("info", "b")
    finally:
        log_to(_quiet)
    assert said == ["a", "b"]


def test_a_watchdog_that_raises_is_told_once_and_fed_again() -> None:
    watchdog = _Watchdog()
    with History(1, watchdog=watchdog) as history:
        errors = []
        client = history.client
        client.on_error(errors.append)
        history.come_to_rest()
        assert watchdog.fed
        watchdog.error = ValueError("not there")
        for _ in range(5):
            history.turn()
        assert errors == [watchdog.error]
        assert client.connected
        watchdog.error = None
        before = watchdog.fed
        history.turn()
        assert watchdog.fed > before
        watchdog.error = OSError(5)
        history.turn()
        assert errors[1:] == [watchdog.error]
        watchdog.error = None
        assert _delivers(history)


def test_a_reason_is_told_once_until_there_is_a_connection_again() -> None:
    with History(1) as history:
        errors = []
        history.client.on_error(errors.append)
        history.come_to_rest()
        for _ in range(2):
            told, failed = len(errors), history.client.stats["failures"]
            history.reach(False)
            history.lose(0)
            history.client.poll()
            for _ in range(6):
                history.pass_time(200000)
                history.client.poll()
            names = [type(error).__name__ for error in errors[told:]]
            assert names[0] == "ConnectionLost"
            assert len(names) == len(set(names)) >= 2, names
            assert history.client.stats["failures"] - failed > len(names)
            history.reach(True)
            _serve(history)
            assert history.client.connected


def test_who_listens_later_is_told_of_what_still_goes_wrong() -> None:
    with History(1) as history:
        errors = []
        history.reach(False)
        for _ in range(3):
            history.turn()
            history.pass_time(200000)
        assert history.client.stats["failures"] >= 2
        history.client.on_error(errors.append)
        for _ in range(3):
            history.turn()
            history.pass_time(200000)
        assert [type(error).__name__ for error in errors] == ["ConnectionRefused"]


def _refused_when_full(history: History) -> str:
    """Publish until the outbox refuses; return what it says."""
    while True:
        try:
            history.client.publish("a", b"0" * 1000)
        except OutboxFull as error:
            return str(error)


def test_a_full_journal_is_not_told_as_too_many_callbacks() -> None:
    with History(1, durable="each") as history:
        history.reach(False)
        assert "messages wait for the broker" in _refused_when_full(history)
        history.restart()  # now it is full, and memory is not
        assert "messages wait for the broker" in _refused_when_full(history)


def test_errors_that_nobody_takes_are_bounded() -> None:
    with History(1) as history:
        errors = []
        history.client.on_error(errors.append)
        inbox = history.client._connection.make_inbox()
        for number in range(1000):
            inbox.new_error(ValueError(number))
        history.turn()
        assert 0 < len(errors) <= 20


def _element(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def _certificate(end_s: int) -> bytes:
    """Return as much of a certificate in DER as says when it ends."""
    # gmtime counts from 1970 or 2000; the difference is a whole number of days.
    shift = 946684800 if time.gmtime(0)[0] == 2000 else 0
    moment = "{:04d}{:02d}{:02d}{:02d}{:02d}{:02d}Z".format(*time.gmtime(end_s - shift)[:6])
    times = _element(0x17, b"200101000000Z") + _element(0x17, moment[2:].encode())
    head = _element(0xA0, b"\x02\x01\x02") + _element(2, b"\x01") + _element(0x30, b"") * 2
    return _element(0x30, _element(0x30, head + _element(0x30, times)))


def test_a_certificate_that_ends_soon_is_told_of_once_a_day() -> None:
    history = History(1)
    told, said = [], []
    try:
        client = history.client
        settings = client._connection.settings
        settings.certificate = [scratch() + "/device.crt"]
        write(settings.certificate[0], _certificate(unix_time() + 10 * 86400 + 3600))
        client.on_error(told.append)
        log_to(lambda level, text: said.append(text) if "certificate" in text else None)
        history.come_to_rest()
        for day in (1, 2, 3):
            assert [type(error).__name__ for error in told] == ["ClientCertificateExpiring"] * day
            assert len(said) == day
            assert client.stats["certificate_days"] == 11 - day
            _serve(history)  # within the same day
            history.pass_time(_DAY_MS)
            _serve(history)
            told[:] = [one for one in told if type(one).__name__ != "TimedOut"]
        write(settings.certificate[0], _certificate(unix_time() + 32 * 86400 + 3600))
        told.clear()
        history.pass_time(_DAY_MS)
        _serve(history)
        assert client.stats["certificate_days"] == 31
        assert "ClientCertificateExpiring" not in [type(error).__name__ for error in told]
        settings.clock_floor = unix_time() + 10 * 86400  # the clock is plainly wrong
        write(settings.certificate[0], _certificate(unix_time() - 86400))
        history.pass_time(_DAY_MS)
        _serve(history)
        assert client.stats["certificate_days"] == 31
    finally:
        log_to(_quiet)
        history.close()


def test_what_is_known_of_the_end_of_a_connection_is_said() -> None:
    with History(1) as history:
        errors = []
        client = history.client
        client.on_error(errors.append)
        _serve(history)
        assert client.connected
        client.publish("c/1", b"x" * 700, 0)
        client.publish("c/1", b"y" * 500)
        client.publish("c/2", b"z" * 300)
        client.poll()
        history.lose(0)
        client.poll()
        what = errors[-1].what
        assert what.startswith("broker.example:8883 hung up after 0 s"), what
        assert "; the last thing sent was a message of 300 bytes on c/2" in what, what
        assert "; 2 in flight, the first of 500 bytes on c/1" in what, what
        assert "gives no reason" in errors[-1].cause
        assert client.last_error is errors[-1]
        # Again and again, soon after the broker has accepted us: a cause of its own.
        for _ in range(4):
            history.pass_time(130000)
            for _ in range(20):
                history.carry(_ALL, _ALL)
                client.poll()
                if client.connected:
                    break
            assert client.connected
            history.lose(0)
            client.poll()
        assert "each puts the other out" in client.last_error.cause
        # One that has lasted begins anew.
        _serve(history)
        history.pass_time(10000)
        client.poll()
        history.carry(_ALL, _ALL)
        for _ in range(4):
            history.pass_time(10000)
            _serve(history)
        assert client.connected
        history.lose(0)
        client.poll()
        assert "gives no reason" in client.last_error.cause


def test_a_session_that_may_be_the_old_one_is_not_said_to_be_lost() -> None:
    history = History(1)
    said = []
    try:
        _serve(history)
        log_to(lambda level, text: said.append(text) if text[:9] == "connected" else None)
        history.lose(0)
        history.client.poll()
        while history.client.state != "connecting":
            history.pass_time(100)
            history.client.poll()
        history.client.poll()
        history.lose_answers(False)  # CONNACK among them
        _serve(history)
        assert history.client._connection.link.session.in_doubt
        assert len(said) == 1 and "session" not in said[0], said
    finally:
        log_to(_quiet)
        history.close()


def test_a_session_that_the_broker_has_lost_is_said() -> None:
    history = History(1)
    said = []
    try:
        _serve(history)
        log_to(lambda level, text: said.append(text) if text[:9] == "connected" else None)
        history.lose(0)
        _serve(history)
        history.forget_session()
        _serve(history)
        assert ["session" in text for text in said] == [True, True], said
        assert "no session of ours any more" in said[1]
    finally:
        log_to(_quiet)
        history.close()
