"""`broker audit-log`: how a log is read, what is called a breach, and what is printed."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from securemqtt_tools.broker.audit.event import CONNECTED, Event, event
from securemqtt_tools.broker.audit.findings import Certificate, Judge
from securemqtt_tools.broker.audit.line import parse_line
from securemqtt_tools.broker.audit.reader import Reader
from securemqtt_tools.broker.audit.source import LogFile
from securemqtt_tools.cli import FatalError, main
from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.brokers.hostile_names import FORGED, HOSTILE, VICTIM
from support.brokers.mqtt import Refused
from support.network.net import wait_until
from support.requirements import require_program
from support.speed import seconds

NOW = datetime(2026, 11, 29, 23, 0, tzinfo=timezone.utc)
SCRIPT = str(Path(__file__).parents[2] / "tools" / "broker.py")
ENTERED = "New client connected from 192.0.2.7:4711 as pump (p2, c1, k60, u'pump')."
AT = "2026-11-29T22:00:00: "


def events(*lines: str, whole: bool = True) -> list[Event]:
    """Return what lines of a log tell."""
    reader = Reader(NOW, whole)
    return [one for line in lines for one in reader.events(line.encode())]


def told(*lines: str) -> list[tuple[str, str | None, str | None, str]]:
    """Return what lines tell, without time and certificate."""
    return [(one.what, one.identity, one.address, one.reason) for one in events(*lines)]


@pytest.mark.parametrize(
    "front",
    [
        "1795989600: ",
        "Nov 29 22:00:00 pi mosquitto[123]: 1795989600: ",
        "Nov 29 22:00:00 pi mosquitto[123]: ",
        "2026-11-29T22:00:00+0000 pi mosquitto[123]: 1795989600: ",
        "2026-11-29T22:00:00.123456+00:00 pi mosquitto[123]: ",
    ],
)
def test_what_stands_before_a_line_of_mosquitto(
    front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    (one,) = events(front + ENTERED)
    assert (one.what, one.identity, one.address) == (CONNECTED, "pump", "192.0.2.7")
    assert one.time is not None
    assert abs(one.time - NOW + timedelta(hours=1)) < timedelta(days=1)  # in any zone


def test_syslog_without_a_year_is_of_the_last_one_that_can_be() -> None:
    line = parse_line("Dec 31 23:59:59 pi mosquitto[1]: x", datetime(2027, 1, 2).astimezone())
    assert line is not None and line.time is not None and line.time.year == 2026
    assert parse_line("Feb 30 23:59:59 pi mosquitto[1]: x", NOW).time is None  # type: ignore[union-attr]
    assert parse_line("Undecided 31 x", NOW) is None


def test_ipv6_and_what_stands_for_ipv4() -> None:
    forms = {"2001:db8::7:4711": "2001:db8::7", "::ffff:192.0.2.7:4711": "192.0.2.7"}
    for peer, address in forms.items():
        assert told(AT + ENTERED.replace("192.0.2.7:4711", peer))[0][2] == address


def test_before_2_1_a_refusal_is_of_the_only_one_who_can_be_meant() -> None:
    start = AT + "mosquitto version 2.0.11 starting"
    opened = [f"{AT}New connection from 192.0.2.{n}:1 on port 8883." for n in range(3)]
    failed = AT + "Client <unknown> disconnected due to protocol error."

    def addresses(*lines: str) -> list[str | None]:
        return [address for what, _, address, _ in told(*lines) if what == "refused"]

    assert addresses(start, opened[0], failed) == ["192.0.2.0"]
    assert addresses(start, opened[0], opened[1], failed, failed) == [None, None]
    assert addresses(start, opened[0], opened[1], failed, failed, opened[2], failed) == [
        None,
        None,
        "192.0.2.2",
    ]
    assert addresses(opened[0], failed) == [None]  # who else was there before the log began?
    websockets = AT + "Opening websockets listen socket on port 8884."
    assert addresses(start, websockets, opened[0], failed) == [None]


@pytest.mark.parametrize(
    "socket",
    ["/home/pi/.securemqtt/broker/eviction/socket", "/var/lib/mosquitto/securemqtt.socket"],
)
def test_how_we_put_out_is_told_as_that(socket: str) -> None:
    lines = [
        ENTERED,
        "Client pump already connected, closing old connection.",
        f"New client connected from {socket}:0 as pump (p2, c1, k60, u'pump').",
        "Client pump disconnected.",
    ]
    assert told(*(AT + line for line in lines)) == [
        ("connected", "pump", "192.0.2.7", ""),
        ("evicted", "pump", "192.0.2.7", "its certificate has been revoked"),
    ]


def test_looking_in_for_who_is_away_is_no_event() -> None:
    socket = "/home/pi/.securemqtt/broker/eviction/socket"
    lines = [
        ENTERED,
        "Client pump disconnected.",
        f"New client connected from {socket}:0 as pump (p2, c0, k60, u'pump').",
        "Client pump disconnected.",
        ENTERED,
    ]
    assert [one[0] for one in told(*(AT + line for line in lines))] == [
        "connected",
        "disconnected",
        "connected",
    ]


def test_a_line_that_mosquitto_has_cut_tells_nothing() -> None:
    """What a client chose would be the end of it."""
    claimed = "victim [1.2.3.4:5] disconnected: " + "x" * 2000
    assert told(AT + f"Client {claimed}"[:970]) == []
    assert told(AT + "Client victim [1.2.3.4:5] disconnected: not authorised.") != []


@pytest.mark.parametrize("forged", FORGED)
def test_forged_lines_would_tell_of_the_victim(forged: str) -> None:
    """Else the hostile names would prove nothing."""
    assert [(one.identity, one.address) for one in events(forged)] == [(VICTIM, "1.2.3.4")]


RABBIT = "2026-11-29 22:00:00.{:06d}+00:00 [{}] <0.9.0> {}"


@pytest.mark.parametrize("said", HOSTILE)
def test_rabbitmq_writes_line_breaks_of_clients(said: str) -> None:
    text = f"MQTT login failed for user '{said}', authentication failed: Refused"
    lines = [RABBIT.format(1, "error", part) for part in text.split("\n")]
    name = "192.0.2.7:1 -> 192.0.2.1:8883"
    end = f"MQTT connection {name} is closing due to an authentication failure"
    (one,) = told(*lines, RABBIT.format(2, "error", end))
    assert one[:3] == ("refused", None, "192.0.2.7")


def test_a_log_that_begins_within_a_message_of_rabbitmq() -> None:
    text = "accepting MQTT connection <0.9.0> (1.2.3.4:1 -> 192.0.2.1:8883, client id: victim)"
    lines = [RABBIT.format(1, "info", text)]
    assert [one.identity for one in events(*lines)] == [VICTIM]
    assert events(*lines, whole=False) == []


_OF_EACH = [
    AT + ENTERED,
    AT + "Client pump [192.0.2.7:4711] disconnected: protocol error.",
    AT + "Client pump already connected, closing old connection.",
    AT + "Bad socket read/write on client pump: Invalid arguments provided.",
    AT + "Client connection from 192.0.2.7 failed: error:0A0000C7:SSL routines::peer did not.",
    AT + "OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading",
    AT + "DEBUG Client ID: pump, IP: 192.0.2.7 was disconnected. reason: idle.",
    AT + "INFO securemqtt: put out pump from 192.0.2.7 with certificate 1A: revoked",
    "2026-11-29 22:00:00,000 INFO securemqtt.broker: left pump from 192.0.2.7 with certificate 1A",
    RABBIT.format(1, "error", 'closing MQTT connection "192.0.2.7:1 -> ::1:2" (keepalive timeout)'),
    RABBIT.format(1, "notice", "TLS server: In state x generated SERVER ALERT: Fatal - Unknown CA"),
    RABBIT.format(
        1, "warning", "MQTT login failed for user 'pump': virtual host access not allowed"
    ),
]


def test_no_line_ends_it_or_takes_long() -> None:
    """Pieces of lines, again and again, as one writes them who knows how they are read."""
    pieces = [part + " " for line in _OF_EACH for part in line.split(" ")]
    choose = random.Random(1)
    lines = [
        choose.choice(_OF_EACH)[: choose.randrange(60)] + "".join(choose.choices(pieces, k=9)) * n
        for n in (0, 1, 2, 60)
        for _ in range(500)
    ]
    begin = time.process_time()
    found = events(*_OF_EACH, *lines)
    assert time.process_time() - begin < seconds(5)
    assert len(found) > 10
    assert all(len(one.reason) < 300 and one.reason.isprintable() for one in found)
    assert events(AT + "DEBUG Client ID: pump, IP: 192.0.2.7 was disconnected. reason: .") == []


def connected(
    minute: float, address: str, identity: str = "pump", serial: str | None = None
) -> Event:
    """Return a coming, so many minutes after NOW."""
    return event(NOW + timedelta(minutes=minute), CONNECTED, identity, address, serial=serial)


def breaches(judge: Judge, *comings: Event) -> list[list[str]]:
    """Return what is a breach, of each."""
    return [[one.text for one in judge.findings(each) if one.is_breach] for each in comings]


def test_from_outside_its_networks() -> None:
    networks = {"pump": [ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("::1/128")]}
    comings = (
        connected(0, "192.0.2.7"),
        connected(1, "::ffff:192.0.2.7"),
        connected(2, "::1"),
        connected(30, "198.51.100.1"),
        connected(31, "198.51.100.1", "other"),
    )
    assert breaches(Judge(networks, {}), *comings) == [
        [],
        [],
        [],
        ["from outside its networks (192.0.2.0/24, ::1/128)"],
        [],
    ]


def test_two_addresses_at_once() -> None:
    said = ["came from 192.0.2.7 as well, less than 5 minutes before"]
    judge = Judge({}, {})
    assert breaches(judge, connected(0, "192.0.2.7"), connected(4, "192.0.2.8")) == [[], said]
    assert breaches(judge, connected(20, "192.0.2.7"), connected(26, "192.0.2.8")) == [[], []]
    assert breaches(judge, connected(27, "2001:db8::1")) == [[]]  # a device may have both


def test_an_address_that_is_new_is_told_and_no_breach() -> None:
    judge = Judge({}, {})
    comings = [connected(20 * n, f"192.0.2.{last}") for n, last in enumerate((7, 8, 7))]
    found = [[one.text for one in judge.findings(each)] for each in comings]
    assert found == [[], ["from an address that this log did not have for it"], []]


def test_certificates_that_are_revoked_or_of_another() -> None:
    known = {"AA": Certificate("pump", NOW + timedelta(minutes=1)), "BB": Certificate("lamp", None)}
    judge = Judge({}, known)
    assert breaches(judge, connected(0, "192.0.2.7", serial="aa")) == [[]]
    ((late,),) = breaches(judge, connected(2, "192.0.2.7", serial="aa"))
    assert late.startswith("its certificate was revoked on ")
    assert breaches(
        judge,
        connected(3, "192.0.2.9", "lamp", "bb"),
        connected(4, "192.0.2.8", "fan", "bb"),
    ) == [[], ["the certificate is that of lamp", "the certificate served lamp as well"]]


def test_what_it_remembers_is_bounded() -> None:
    judge = Judge({}, {})
    for number in range(50_000):
        list(judge.findings(connected(number, "192.0.2.7", f"id-{number}", f"{number:x}")))
    for number in range(10_000):
        list(judge.findings(connected(number, str(ipaddress.ip_address(number)))))
    assert len(judge._seen) <= 20_000 and len(judge._holders) <= 20_000
    assert len(judge._seen["pump"]) <= 32


def test_a_log_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "broker.log"
    log.write_bytes(b"".join(b"%06d\n" % n for n in range(1000)))
    assert list(LogFile(log).lines())[:2] == [b"000000", b"000001"]
    part = LogFile(log, most_bytes=70)
    assert (part.whole, list(part.lines())) == (False, [b"%06d" % n for n in range(990, 1000)])
    assert next(iter(LogFile(log, most_bytes=66).lines())) == b"000991"  # the one before is cut
    (tmp_path / "broker.log.1").write_bytes(b"old\nolder\n")
    assert list(LogFile(log).lines())[:3] == [b"old", b"older", b"000000"]
    assert list(LogFile(log, most_bytes=7006).lines())[:2] == [b"older", b"000000"]


def test_what_follows_an_overlong_beginning_is_no_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for length in (4000, 4096, 4097, 8192, 65_536, 200_000):
        log.write_bytes(b"x" * length + b"FORGED\nnext\n")
        first, last = LogFile(log).lines()
        assert not first.startswith(b"FORGED") and len(first) < 5000
        assert last == b"next"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("pipe", "it is no file"), ("none", "No such file"), (".", "it is no file")):
        with pytest.raises(FatalError, match=said):
            LogFile(tmp_path / name)


def run(capsys: pytest.CaptureFixture[str], home: Path, *arguments: object, status: int = 0) -> str:
    """Return what the command prints."""
    capsys.readouterr()
    command = ["broker", "audit-log", "--home", str(home), *map(str, arguments)]
    assert main(command) == status
    return capsys.readouterr().out


def write_log(path: Path, comings: Sequence[tuple[int, str]]) -> Path:
    """Write a log of Mosquitto's: who came in, how many minutes ago."""
    now = datetime.now().astimezone()
    lines = [
        f"{now - timedelta(minutes=ago):%Y-%m-%dT%H:%M:%S}: " + ENTERED.replace("pump", identity)
        for ago, identity in comings
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log", [(600, "pump"), (100, "lamp"), (10, "pump"), (1, "fan")])

    def ids(*options: str) -> list[str]:
        out = run(capsys, tmp_path, "--file", log, "--json", *options)
        return [json.loads(line)["id"] for line in out.splitlines()]

    assert ids() == ["pump", "lamp", "pump", "fan"]
    assert ids("--last", "2") == ["pump", "fan"]
    assert ids("--since", "2h") == ["lamp", "pump", "fan"]
    assert ids("--since", "2020-01-01", "--id", "pump") == ["pump", "pump"]
    assert ids("--refused") == []
    out = run(capsys, tmp_path, "--file", log, "--last", "3")
    assert [line.split()[2:4] for line in out.splitlines()[1:4]] == [
        ["lamp", "connected"],
        ["pump", "connected"],
        ["fan", "connected"],
    ]
    assert "1 before these are not shown: --last 4 shows them." in out
    assert run(capsys, tmp_path, "--file", log, "--refused") == "Nothing of that is in the log.\n"


@pytest.mark.parametrize("wrong", ["soon", "5w", "2026-13-01", "99999999999999d", ""])
def test_a_time_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    assert main(["broker", "audit-log", "--home", str(tmp_path), "--since", wrong]) == 1
    assert "must be 90m, 12h, 7d" in capsys.readouterr().err


def test_without_a_broker_or_its_log(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["broker", "audit-log", "--home", str(tmp_path)]) == 1
    assert "there is no broker in" in capsys.readouterr().err
    assert main(["broker", "audit-log", "--home", str(tmp_path), "--id", "a b"]) == 1


def test_standard_input_and_what_is_written_later(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", [(1, "pump")])
    command = [sys.executable, SCRIPT, "audit-log", "--home", str(tmp_path), "--json"]
    done = subprocess.run(
        [*command, "--file", "-"], input=log.read_bytes(), capture_output=True, check=True
    )
    assert json.loads(done.stdout)["id"] == "pump"
    with subprocess.Popen(
        [*command, "--file", str(log), "--follow"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["id"] == "pump"
            with log.open("a") as file:
                file.write(AT + ENTERED.replace("pump", "lamp") + "\n" + AT[:5])
            assert json.loads(process.stdout.readline())["id"] == "lamp"
            log.rename(tmp_path / "log.1")
            write_log(log, [(0, "fan")])
            assert json.loads(process.stdout.readline())["id"] == "fan"
            process.send_signal(signal.SIGINT)  # as Ctrl-C does
            assert process.wait(seconds(20)) == 0
        finally:
            process.kill()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Make a home with an authority of its own."""
    Authority.create(tmp_path / "ca", passphrase=None)
    return tmp_path


def own_door(home: Path, engine: str, passwords: bool = False) -> Any:
    """Run a broker in a home."""
    return open_door(Authority.open(home / "ca"), home, engine, passwords=passwords)


def test_a_revoked_certificate_that_the_broker_lets_in(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Since it was not told: no reload after `ca revoke`."""
    with own_door(home, "amqtt") as door:
        assert isinstance(door, Door)
        credentials = door.credentials("pump")
        serial = door.authority.inventory.entries("device", "pump")[0].serial
        with door.enter("pump", credentials):
            pass
        assert "BREACH" not in run(capsys, home, "--check")
        door.authority.revoke("pump")
        later = door.authority.inventory.entries("device", "pump")[0].changed_at
        wait_until(lambda: datetime.now(timezone.utc) > later + timedelta(seconds=1))
        with door.enter("pump", credentials):
            pass
        found = json.loads(run(capsys, home, "--json", "--refused", status=0).splitlines()[-1])
        assert (found["id"], found["serial"], found["event"]) == ("pump", serial, "connected")
        (breach,) = found["breaches"]
        assert breach.startswith("its certificate was revoked on ")
        out = run(capsys, home, "--check", status=1)
        assert f"{serial[:16]}…  BREACH: its certificate was revoked on " in out
        assert "Breaches: 1." in out


def test_what_is_said_with_a_wrong_password(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mosquitto takes the user name for who it is, and writes it."""
    require_program("mosquitto")
    with own_door(home, "mosquitto", passwords=True) as door:
        credentials = door.credentials("pump")
        for said in (*(one for one in HOSTILE if one.isprintable() and len(one) < 200), "pump"):
            with door.peer(credentials) as peer, pytest.raises(Refused):
                peer.connect(said, username=said, password="wrong")

        def rows() -> list[dict[str, Any]]:
            out = run(capsys, home, "--json", "--refused")
            return list(map(json.loads, out.splitlines()))

        wait_until(lambda: len(rows()) >= 8, seconds(20), "all refusals")
        assert {row["id"] for row in rows()} <= {None, "pump"}
        assert {row["address"] for row in rows()} == {"127.0.0.1"}
        assert all("not authorised" in row["reason"] for row in rows())
