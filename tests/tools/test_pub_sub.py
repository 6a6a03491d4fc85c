"""`securemqtt pub` and `securemqtt sub` as a user has them: programs, against the real broker."""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.brokers.servers import after, broker_context, tls_server
from support.identities.bundles import write_bundle
from support.network.net import free_port
from support.network.proxy import Proxy
from support.speed import seconds
from support.terminal import Terminal

_MAIN = "import sys; from securemqtt_tools.entry import main; sys.exit(main())"
# A program that ends with its outbox full.
_FILL = """\
from securemqtt import Client, errors
client = Client()
try:
    while True:
        client.publish("~/log", b"x")
except errors.OutboxFull:
    pass
"""
# What is more than that is no matter of a message, and less than what would hurt this machine.
_MEMORY_BYTES = 1 << 30
_numbers = itertools.count()
RUN_S = seconds(60)


@pytest.fixture
def home(
    authority: Authority, broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Make a home with the bundles of an operator and of a device of this test's own."""
    home = tmp_path / "home"
    for name in ("controller", f"desk-{next(_numbers)}"):
        write_bundle(home / "bundles" / name, authority, name, port=broker.port)
    shutil.copytree(home / "bundles" / "controller", home / "bundles" / "off-the-air")
    config = home / "bundles" / "off-the-air" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "port": free_port()}))
    monkeypatch.setenv("SECUREMQTT_HOME", str(home))
    monkeypatch.setenv("SECUREMQTT_BUNDLE", str(device(home)))
    return home


def device(home: Path) -> Path:
    (bundle,) = (home / "bundles").glob("desk-*")
    return bundle


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", _MAIN, *arguments]


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), input=stdin, capture_output=True, timeout=RUN_S, check=False
    )


def configure(home: Path, **settings: object) -> None:
    """Change the bundle of the test's own device."""
    config = device(home) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))


@pytest.fixture
def listen(broker: BrokerProcess, home: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `securemqtt sub` with some arguments."""
    running = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command("sub", "--as", "controller", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_what_is_said_is_heard(home: Path, listen: Callable[..., subprocess.Popen[bytes]]) -> None:
    assert run("pub", "~/note", "kept", "--retain").returncode == 0
    listening = listen(f"devices/{device(home).name}/#", "--count", "3")
    assert listening.stdout is not None
    assert listening.stdout.readline() == b"kept\n"  # so the subscription stands
    done = run("pub", "~/note", "--as", device(home).name, stdin=b"one\r\ntwo\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert listening.communicate(timeout=RUN_S)[0] == b"one\ntwo\n"
    assert listening.returncode == 0


def test_json_has_what_there_is(home: Path, listen: Callable[..., subprocess.Popen[bytes]]) -> None:
    topic = f"devices/{device(home).name}/a"
    (home / "bytes").write_bytes(b"\xff\x00")
    listening = listen(topic, "--json", "--timestamps", "--wait", str(int(RUN_S)), "--count", "8")
    assert listening.stdout is not None
    expected = [
        ({"celsius": 21.5}, ("pub", "~/a", '{"celsius": 21.5}', "--retain")),
        ("fenêtre \x1b[31m", ("pub", "~/a", "-m", "fenêtre \x1b[31m", "--qos", "0")),
        ("", ("pub", "~/a", "--null")),
        ('{"a": NaN}', ("pub", "~/a", '{"a": NaN}')),
        ("[1e999]", ("pub", "~/a", "[1e999]")),
        ("[" * 5000, ("pub", "~/a", "[" * 5000)),
        ("\x7f\u2028", ("pub", "~/a", "\x7f\u2028")),
        ("/wA=", ("pub", "~/a", "--file", str(home / "bytes"))),
    ]
    for wanted, arguments in expected:
        assert run(*arguments).returncode == 0
        line = listening.stdout.readline()
        assert line.decode().rstrip("\n").isprintable()
        fields = json.loads(line)
        assert fields.pop("payload", None) == wanted or fields.pop("payload_base64") == wanted
        assert fields.pop("time").startswith("20")
        assert fields == {"topic": topic, "qos": fields["qos"], "retain": bool(fields["retain"])}
    assert listening.wait(RUN_S) == 0


def test_what_others_wrote_is_escaped_and_raw_is_as_it_was(home: Path) -> None:
    payload = b"\x1b[2J\xff\xc2\x9b\x07" + "\u202e\u2028\U000e0001".encode()
    assert run("pub", "~/wild", "--file", "-", "--retain", stdin=payload).returncode == 0
    shown = run("sub", "~/wild", "--count", "1", "--verbose")
    assert shown.returncode == 0
    topic = f"devices/{device(home).name}/wild".encode()
    assert shown.stdout.startswith(topic + b" ")
    assert shown.stdout.strip().decode().isprintable() and shown.stdout.isascii()
    assert run("sub", "~/wild", "--count", "1", "--raw").stdout == payload


def test_retained_messages_are_shown_alone_or_left_out(home: Path) -> None:
    for name in ("a", "b"):
        assert run("pub", f"~/{name}", name, "--retain").returncode == 0
    shown = run("sub", "~/+", "--retained-only", "-v")
    assert shown.returncode == 0
    assert sorted(line.split()[1] for line in shown.stdout.splitlines()) == [b"a", b"b"]
    assert run("sub", "~/+", "--no-retained", "--wait", "2").stdout == b""


def test_who_has_no_bundle_is_told_which_there_are(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/etc/securemqtt").exists():
        pytest.skip("this computer has a bundle in /etc/securemqtt")
    monkeypatch.delenv("SECUREMQTT_BUNDLE")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run("pub", "~/note", "hello")
    there = f"{home / 'bundles'}: of controller, {device(home).name}, off-the-air; or".encode()
    assert done.returncode == 1 and there in done.stderr and done.stderr.count(b"\n") == 1
    making = f"securemqtt provision pi --id me --broker … --out {home / 'bundles' / 'me'}`\n"
    assert done.stderr.endswith(making.encode())


def test_an_id_whose_bundle_is_in_the_usual_place_is_found_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECUREMQTT_BUNDLE")
    monkeypatch.setenv("HOME", str(tmp_path))
    name = device(home).name
    (tmp_path / ".config").mkdir()
    shutil.move(device(home), tmp_path / ".config" / "securemqtt")
    assert run("pub", "~/note", "hello", "--as", name, "--retain").returncode == 0
    shown = run("sub", f"devices/{name}/note", "--as", "controller", "--count", "1")
    assert shown.stdout == b"hello\n"


def test_an_id_that_is_certified_and_has_no_bundle_here_is_not_to_be_made_again(
    authority: Authority, home: Path
) -> None:
    name = f"board-{next(_numbers)}"
    authority.issue_device(name, renew=True)
    (home / "ca").symlink_to(authority.directory)
    done = run("pub", "~/note", "hello", "--as", name)
    assert done.returncode == 1
    assert b"though it has a certificate: name its bundle with --bundle DIR, or" in done.stderr
    assert b"securemqtt provision pi --id me --broker" in done.stderr


def test_what_the_bundle_does_not_allow_is_told(home: Path) -> None:
    configure(home, may_publish=[f"devices/{device(home).name}/#"])
    assert run("pub", "~/note", "hello").returncode == 0
    done = run("pub", "devices/somebody-else/note", "hello")
    assert done.returncode == 1
    said = done.stderr.decode()
    assert "the broker has dropped it, unless they have changed since" in said
    assert said.endswith("broker allow, or grant): provision it again, and the bundle knows them\n")


@pytest.mark.parametrize("arguments", [("pub", "/home/pi/note", "x"), ("sub", "/home/pi/note")])
def test_a_home_directory_in_the_place_of_the_tilde_is_told(
    arguments: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/pi")
    own = [f"devices/{device(home).name}/#"]
    configure(home, may_publish=own, may_subscribe=own)
    done = run(*arguments)
    assert done.returncode == 1
    said = done.stderr.decode().splitlines()[-1]
    assert said.endswith("; the shell has put /home/pi in the place of ~, so quote it: '~/…'")


def test_the_time_is_over(home: Path) -> None:
    done = run("sub", "~/nothing", "--count", "1", "--wait", "1")
    assert (done.returncode, done.stdout, done.stderr) == (27, b"", b"")


def test_who_takes_timeout_for_the_time_of_listening_is_told(home: Path) -> None:
    told = b"so this listens without end: for 20 s at most, add --wait 20\n"
    for more, said in (((), True), (("--wait", "1"), False), (("--retained-only",), False)):
        with subprocess.Popen(
            command("sub", "~/nothing", "--timeout", "20", *more), stderr=subprocess.PIPE
        ) as listening:
            assert listening.stderr is not None
            try:
                assert listening.stderr.readline().endswith(told) is said
            finally:
                listening.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_sigterm_end_it_without_a_word(
    number: signal.Signals, home: Path, listen: Callable[..., subprocess.Popen[bytes]]
) -> None:
    assert run("pub", "~/note", "here", "--retain").returncode == 0
    # Ignored where these tests run under nohup, and then by what they start, too.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        listening = listen(f"devices/{device(home).name}/note")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert listening.stdout is not None and listening.stdout.readline() == b"here\n"
    listening.send_signal(number)
    assert listening.communicate(timeout=RUN_S) == (b"", b"")
    assert listening.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_pub_delivers_what_it_has_read_when_it_is_told_to_end(
    number: signal.Signals, home: Path, listen: Callable[..., subprocess.Popen[bytes]]
) -> None:
    assert run("pub", "~/log", "kept", "--retain").returncode == 0
    listening = listen(f"devices/{device(home).name}/log")
    assert listening.stdout is not None and listening.stdout.readline() == b"kept\n"
    saying = subprocess.Popen(
        command("pub", "~/log", "-l"), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert saying.stdin is not None
        for line in (b"one\n", b"two\n"):
            saying.stdin.write(line)
            saying.stdin.flush()
            assert listening.stdout.readline() == line  # as it comes, not at the end
        saying.send_signal(number)
        said = saying.communicate(timeout=RUN_S)[1]
    finally:
        saying.kill()
        saying.communicate()
    assert (saying.returncode, said) == (130, b"securemqtt: interrupted\n")


@pytest.mark.parametrize("known", [True, False], ids=["ends", "goes-on"])
def test_pub_says_what_it_has_not_sent(
    known: bool, home: Path, broker: BrokerProcess, listen: Callable[..., subprocess.Popen[bytes]]
) -> None:
    assert run("pub", "~/log", "kept", "--retain").returncode == 0
    listening = listen(f"devices/{device(home).name}/log")
    assert listening.stdout is not None and listening.stdout.readline() == b"kept\n"
    with Proxy(broker.port) as proxy:
        configure(home, port=proxy.port, outbox_messages=20, outbox_full="drop_oldest")
        saying = subprocess.Popen(
            command("pub", "~/log", "--wait", "2"), stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            assert saying.stdin is not None and saying.stderr is not None
            saying.stdin.write(b"one\n")
            saying.stdin.flush()
            assert listening.stdout.readline() == b"one\n"
            proxy.up.hold()
            saying.stdin.write(b"another\n" * 98 + b"last")
            saying.stdin.flush()
            if known:
                saying.stdin.close()
                saying.stdin = None
            assert saying.wait(RUN_S) == 1
            said = saying.stderr.read().decode()
        finally:
            saying.kill()
            saying.communicate()
    (line,) = [line for line in said.splitlines() if line.startswith("securemqtt: ")]
    found = re.search(
        r"(\d+ lines|the rest) of standard input w(?:ere|as) not sent; (\d+) messages were not "
        "acknowledged in 2 s",
        line,
    )
    assert found is not None, line
    # 19 where the first, which was heard, is acknowledged only meanwhile.
    assert found[2] in ("19", "20"), line
    assert found[1] == (f"{99 - int(found[2])} lines" if known else "the rest"), line


@pytest.mark.parametrize("lines", [False, True], ids=["message", "lines"])
def test_pub_says_that_an_outbox_is_full_of_what_an_earlier_program_left(
    lines: bool, home: Path, authority: Authority, tmp_path: Path
) -> None:
    configure(home, outbox="durable", outbox_journal_bytes=32_768, outbox_full="refuse")
    subprocess.run([sys.executable, "-c", _FILL], timeout=RUN_S, check=True)
    # A broker that takes the connection and acknowledges nothing.
    deaf = tls_server(broker_context(tmp_path, authority), after(b"\x20\x02\0\0"))
    with deaf as port:
        configure(home, port=port)
        text = () if lines else ("hello",)
        done = run("pub", "~/log", *text, "--wait", "1", stdin=b"one\ntwo\n" if lines else b"")
    said = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 1
    assert re.search(r"securemqtt: \d+ messages wait for the broker", said), said
    assert ("; 2 lines of standard input were not sent" in said) == lines, said


@pytest.mark.timeout(int(seconds(240)))
def test_pub_does_not_wait_for_what_the_broker_refuses(home: Path) -> None:
    (home / "large").write_bytes(bytes(1_100_000))  # our broker takes 1 MiB
    done = run("pub", "~/large", "--file", str(home / "large"), "--wait", "3600")
    said = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 1
    assert "1 message was not acknowledged: " in said and "3600" not in said, said


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("--file", "/dev/zero"), "/dev/null", "/dev/zero is longer than 1000 bytes, which is the"),
        (("--file", "-"), "/dev/zero", "standard input is longer than 1000 bytes, which"),
        ((), "/dev/zero", "line 1 of standard input is longer than 1000 bytes, which"),
    ],
)
def test_what_has_no_end_is_told_at_the_limit(
    arguments: tuple[str, ...], stdin: str, words: str, home: Path
) -> None:
    configure(home, max_publish_bytes=1000)
    with Path(stdin).open("rb") as stream:
        done = subprocess.run(
            command("pub", "~/a", *arguments),
            stdin=stream,
            stderr=subprocess.PIPE,
            timeout=RUN_S,
            check=False,
            preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES)
            ),
        )
    said = done.stderr.decode()
    assert done.returncode == 1 and words in said and len(said.splitlines()) == 1, said


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_that_is_too_long_is_named_and_what_is_not_sent_is_counted(
    end: bytes, home: Path
) -> None:
    configure(home, max_publish_bytes=1000)
    done = run("pub", "~/a", "--retain", stdin=b"one\ntwo\r\n" + b"x" * 1001 + end)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "line 3 of standard input is longer than 1000 bytes" in said
    assert "; 1 line of standard input was not sent" in said
    assert run("sub", "~/a", "--count", "1").stdout == b"two\n"
    done = run("pub", "~/a", "--retain", stdin=b"x" * 2001 + b"\nthree\nfour" + end)
    assert "; 3 lines of standard input were not sent" in done.stderr.decode()


@pytest.mark.parametrize("raw", [False, True])
def test_who_reads_the_output_may_go_and_need_not_wait_for_a_message(raw: bool, home: Path) -> None:
    assert run("pub", "~/note", "here", "--retain").returncode == 0
    reader, writer = os.pipe()
    topic = f"devices/{device(home).name}/note"
    listening = subprocess.Popen(
        command("sub", topic, "--as", "controller", *(["--raw"] if raw else [])),
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    try:
        os.close(writer)
        assert os.read(reader, 100).strip() == b"here"
        os.close(reader)
        said = listening.communicate(timeout=RUN_S)[1]
    finally:
        listening.kill()
        listening.communicate()
    assert (listening.returncode, said) == (0, b"")


@pytest.mark.parametrize("form", ["--json", "--raw", "--no-verbose"])
def test_a_full_disk_is_one_line(form: str, home: Path) -> None:
    assert run("pub", "~/note", "here", "--retain").returncode == 0
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("sub", "~/note", form),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=RUN_S,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"securemqtt: cannot write the output: No space left on device\n"


def test_who_knows_mosquitto_pub_and_sub_finds_their_options(home: Path) -> None:
    name = device(home).name
    bundle = home / "bundles" / name
    for arguments in (("-t", "~/b", "-m", "left out"), ("-t", "~/a", "over there", "-q", "2")):
        assert run("pub", "-r", "-i", name, "--home", str(home), *arguments).returncode == 0
    assert run("pub", "-t", "~/c", "-s", "-r", stdin=b"all\nof it").returncode == 0
    shown = run(
        *("sub", "--bundle", str(bundle), "-v", "-C", "2", "-W", str(int(RUN_S)), "-q", "0"),
        *("-t", "~/+", "-T", "~/b"),
    )
    assert shown.returncode == 0, shown.stderr
    assert sorted(shown.stdout.splitlines()) == [
        f"devices/{name}/a over there".encode(),
        f"devices/{name}/c all\\x0aof it".encode(),
    ]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colour_is_for_terminals(no_color: str, home: Path) -> None:
    assert run("pub", "~/note", "here", "--retain").returncode == 0
    arguments = command("sub", "~/note", "-C", "1", "--timestamps")
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": no_color}
    with Terminal(arguments, **environment) as terminal:
        assert terminal.end() == 0
    topic = f"devices/{device(home).name}/note"
    assert topic in terminal.seen and terminal.seen.endswith("here\r\n")
    assert ("\x1b[" in terminal.seen) == (not no_color)
    piped = subprocess.run(
        arguments, capture_output=True, env=environment, timeout=RUN_S, check=False
    )
    assert piped.stdout.endswith(b" here\n") and b"\x1b" not in piped.stdout
    assert topic.encode() not in piped.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pub", "~/a", "x", "--timeout", "0"), "a whole number from 1 to 3600 s, not '0'"),
        (("pub", "a/+", "x"), "is no topic name"),
        (("pub", "~/a", "\udcff"), "MESSAGE is not UTF-8: send bytes from a pipe with --file -"),
        (("pub", "~/a", "x", "--as", "nobody"), "there is no bundle of 'nobody'"),
        (("pub", "~/a", "x", "--as", "../controller"), "there is no bundle of"),
        (("pub", "~/a", "x", "--as", ""), "there is no bundle of '': an id is a name"),
        (("pub", "~/a", "x", "--null"), "one of MESSAGE, --message"),
        (("pub", "~/a", "--file", "/nowhere"), "cannot read /nowhere: No such file"),
        (("pub",), "which topic?"),
        (("pub", "-t", "~/a", "one", "two"), "one of MESSAGE"),
        (("sub",), "which FILTER?"),
        (("sub", "~/a", "-T", "a/#/b"), "is no topic filter"),
        (("sub", "a/#/b"), "is no topic filter"),
        (("sub", "~/a", "--bundle", "/nowhere"), "/nowhere"),
        (("sub", "~/a", "--as", "off-the-air"), "refused the connection [111]"),
    ],
)
def test_a_mistake_is_one_line(home: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    text = done.stderr.decode()
    assert done.returncode == 1 and words in text, text
    assert text.startswith("securemqtt: ") and len(text.splitlines()) == 1
