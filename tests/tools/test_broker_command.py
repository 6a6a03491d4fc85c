"""The command `broker`, as a person uses it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.foreground import serve
from securemqtt_tools.broker.mosquitto.program import REWORKED_SINCE, find_mosquitto
from securemqtt_tools.broker.passwords import password_matches, read_hashes
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.keys import generate_key, key_pem, load_key
from securemqtt_tools.pki.profiles import SERVER, Issuer, leaf_certificate
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.mqtt import Peer, Refused, client_context
from support.brokers.servers import mosquitto
from support.identities.credentials import issued_credentials
from support.network.net import wait_until
from support.processes import children
from support.requirements import require_program
from support.speed import seconds


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path / "home", capsys, broker=False)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [],
        ["init"],
        ["run"],
        ["reload"],
        ["grant"],
        ["password"],
        ["install"],
        ["check"],
    ):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--help"], command="broker")
        assert caught.value.code == 0
        assert "securemqtt broker" in capsys.readouterr().out


def test_init(home: Home) -> None:
    out = home.good(
        "broker",
        "init",
        "mqtt.local",
        "10.1.2.3",
        "--operator",
        "boss",
        "--monitor",
        "eye",
        "--websockets",
    )
    assert "port 8883, WebSockets on 8884 of all addresses, for mqtt.local, 10.1.2.3" in out
    config = BrokerConfig.open(home.broker)
    assert (config.names, config.websockets_port) == (("mqtt.local", "10.1.2.3"), 8884)
    assert config.roles == {"boss": "operator", "eye": "monitor"}


def test_what_this_mosquitto_cannot_do_is_said(home: Home) -> None:
    require_program("mosquitto")
    program = find_mosquitto()
    assert program is not None
    lacks = program.version < REWORKED_SINCE
    for options, said in (((), False), (("--websockets",), lacks)):
        out = home.good("broker", "init", "localhost", "--force", *options)
        assert ("looks at no revocation list on WebSockets" in out) == said


def test_init_takes_the_names_of_this_host(home: Home) -> None:
    home.good("broker", "init")
    assert {"localhost", "127.0.0.1"} < set(BrokerConfig.open(home.broker).names)


def test_init_anew_keeps_the_roles(home: Home) -> None:
    home.good("broker", "init", "localhost", "--operator", "hub")
    home.good("broker", "init", "localhost", "127.0.0.1", "--force", "--monitor", "eye")
    assert dict(BrokerConfig.open(home.broker).roles) == {"hub": "operator", "eye": "monitor"}


def test_init_does_not_overwrite(home: Home) -> None:
    home.good("broker", "init", "localhost")
    before = (home.broker / "server.pem").read_bytes()
    assert "add --force" in home.bad("broker", "init", "localhost")
    assert (home.broker / "server.pem").read_bytes() == before
    home.good("broker", "init", "localhost", "--force")
    assert (home.broker / "server.pem").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["init", "not a name"], "neither a host name nor an IP address"),
        (["init", "localhost", "--port", "99999"], "must be a whole number from 0 to 65535"),
        (["init", "localhost", "--bind", "eth0"], "no IP address"),
        (["init", "localhost", "--operator", "a/b"], "no device id"),
        (["run"], "run securemqtt broker init"),
        (["reload"], "run securemqtt broker init"),
        (["grant", "a", "operator"], "run securemqtt broker init"),
        (["check"], "run securemqtt broker init"),
    ],
)
def test_mistakes(home: Home, arguments: list[str], complaint: str) -> None:
    assert complaint in home.bad("broker", *arguments)


def test_without_an_authority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "localhost", "--home", str(tmp_path)], command="broker") == 1
    assert "make one with securemqtt ca init" in capsys.readouterr().err


def test_grant(home: Home) -> None:
    home.good("broker", "init", "localhost")
    assert "boss reads every device and sends it commands" in home.good(
        "broker", "grant", "boss", "operator"
    )
    assert "user boss" in (home.broker / "acl").read_text()
    home.good("broker", "grant", "boss", "device")
    assert BrokerConfig.open(home.broker).roles == {}
    assert "no device id" in home.bad("broker", "grant", "#", "operator")


def test_password(home: Home, tmp_path: Path) -> None:
    home.good("broker", "init", "localhost")
    file = tmp_path / "password"
    assert "asks for no passwords" in home.bad("broker", "password", "a", "--out", file)
    home.good("broker", "init", "localhost", "--force", "--passwords")
    out = home.good("broker", "password", "a", "--out", file)
    password = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert password not in out
    assert password_matches(read_hashes(home.broker / "passwords")["a"], password)
    assert "left as it is" in home.bad("broker", "password", "a", "--out", file)
    home.good("broker", "password", "a", "--remove")
    assert read_hashes(home.broker / "passwords") == {}
    assert "has no password" in home.bad("broker", "password", "a", "--remove")


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
def test_run_and_reload(home: Home, tmp_path: Path, engine: str) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    home.good("broker", "init", "localhost", "--port", str(free_port("127.0.0.1")))
    port = BrokerConfig.open(home.broker).port
    credentials = issued_credentials(tmp_path, home.authority.issue_device("pump"))
    context = client_context(home.broker / "ca.pem", credentials)
    with broker_run(home.directory, "--engine", engine) as process:
        with Peer(port, context) as peer:
            peer.connect("pump")
            assert "runs already: securemqtt broker reload has" in home.bad("broker", "run")
            home.authority.revoke("pump")
            out = home.good("broker", "reload")
            assert "The CRL lists 1 revoked" in out
            assert f"process {process.pid}" in out
            peer.wait_closed()

        def shut_out() -> bool:
            try:
                with Peer(port, context) as late:
                    late.connect("pump")
            except ConnectionRefusedError:
                return False
            except Refused:
                return True
            return False

        wait_until(shut_out, what="the refusal of the revoked")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=seconds(30))
        assert process.returncode == 0
        assert out.splitlines()[-1] == "The broker has ended."
        assert "Traceback" not in err
        with pytest.raises(ConnectionRefusedError):
            Peer(port, context)
    assert "takes it up when it starts" in home.good("broker", "reload")


def test_run_when_the_broker_dies(home: Home) -> None:
    require_program("mosquitto")
    home.good("broker", "init", "localhost", "--port", "0")
    with broker_run(home.directory, "--engine", "mosquitto") as process:
        (pid,) = children(process.pid)
        os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=seconds(30))
        assert process.returncode == 1
        assert "has ended by itself: see" in err


def test_run_goes_on_without_the_authority(home: Home) -> None:
    """The broker's host may have no authority, and an unattended start can be asked for no
    passphrase.
    """
    require_program("mosquitto")
    home.good("broker", "init", "localhost", "--port", "0")
    (home.directory / "ca").rename(home.directory / "elsewhere")
    with broker_run(home.directory) as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=seconds(30))
    assert "warning: certificate and CRL are used as they are" in err
    assert process.returncode == 0


def test_upkeep_while_it_runs(home: Home) -> None:
    home.good("broker", "init", "localhost", "--port", "0")
    said: list[str] = []
    asked: list[bool] = []

    def upkeep() -> bool:
        asked.append(True)
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return len(asked) == 2

    broker = BrokerProcess(home.broker, engine="amqtt")

    def has_news() -> bool:
        return False

    serve(broker, lambda: said.append("started"), said.append, upkeep, has_news, every_s=0.05)
    assert said == ["started", "Reloaded."]
    assert not broker.running


def test_run_refuses_when_all_would_be_refused(home: Home) -> None:
    home.good("broker", "init", "localhost")
    crl = home.broker / "crl.pem"
    program = require_program("openssl")
    assert (
        subprocess.run(
            [program, "crl", "-in", crl, "-noout"], timeout=seconds(20), check=False
        ).returncode
        == 0
    )
    crl.write_bytes(b"nonsense")
    (home.directory / "ca").rename(home.directory / "elsewhere")
    status, _, err = home.run("broker", "run")
    assert status == 1
    assert "crl.pem is damaged, or is just being copied: run securemqtt broker reload" in err


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
def test_check(home: Home, engine: str) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    home.good("broker", "init", "localhost", "--websockets", "0", "--port", "0")
    with BrokerProcess(home.broker, engine=engine):
        said = home.good("broker", "check")
    # And nothing of what the Mosquitto of this machine cannot do, which need not be what runs.
    lines = said.splitlines()
    titles = [line for line in lines if line.startswith("Port ")]
    assert ["(WebSockets)" in title for title in titles] == [False, True]
    assert sum(line.startswith("yes") for line in lines) == len(lines) - len(titles) == 12
    assert (
        "refuses a client without a certificate, " in said
        and "only who has a certificate of your authority may enter" in said
    )
    # our words, not OpenSSL's
    assert "_ssl.c" not in said and "EOF" not in said and "ALERT_" not in said
    assert "nothing answers on" in home.bad("broker", "check")


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
def test_a_broker_that_is_set_up_anew_while_it_runs_is_reloaded(home: Home, engine: str) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    port = str(free_port("127.0.0.1"))
    said = home.good("broker", "init", "localhost", "--port", port)
    assert said.endswith("Next: securemqtt broker run, or install.\n")
    anew = ("init", "--force", "--bind", "127.0.0.1", "--port", port)
    with broker_run(home.directory, "--engine", engine):
        assert home.good("broker", *anew, "mqtt.local").endswith(
            "Next: securemqtt broker reload.\n"
        )
        status, out, err = home.run("broker", "check")
        assert (status, err) == (1, "")
        assert "NO   proves who it is: its certificate is not for mqtt.local, and the" in out
        assert "not taken up its newest files: securemqtt broker reload (where" in out
        # One that is for this name, but no longer what is on the disk.
        home.good("broker", *anew, "localhost")
        status, out, _ = home.run("broker", "check")
        assert status == 1
        assert "NO   shows its newest certificate: the running broker has not taken" in out
        home.good("broker", "reload")
        wait_until(lambda: home.run("broker", "check")[0] == 0, seconds(60))


def test_a_certificate_that_was_revoked_is_told_until_there_is_another(home: Home) -> None:
    require_program("mosquitto")
    home.good("broker", "init", "localhost", "--port", str(home.port))
    with home.running():
        assert "securemqtt broker reload, and" in home.good(
            "ca", "revoke", "localhost", "--role", "server"
        )
        status, _, warned = home.run("broker", "check")
        assert status == 1
        assert "its certificate was revoked on" in warned
        assert "its certificate was revoked on" in home.warned("broker", "status")
        assert "shows a new certificate, with a new key, until" in home.good("broker", "reload")
        wait_until(lambda: home.run("broker", "check")[0] == 0, seconds(60))
        home.good("broker", "status")
        assert "new certificate" not in home.good("broker", "reload")


def check_other(home: Home, port: int) -> list[str]:
    """Run `check` against what listens on `port`, which must not pass; return what was wrong."""
    BrokerConfig.open(home.broker).changed(port=port)
    status, out, _ = home.run("broker", "check")
    assert status == 1
    return [line for line in out.splitlines() if not line.startswith(("yes", "Port "))]


def test_check_finds_an_open_door(home: Home, tmp_path: Path) -> None:
    home.good("broker", "init", "localhost")
    files = (
        f"cafile {home.broker}/ca.pem",
        f"certfile {home.broker}/server.pem",
        f"keyfile {home.broker}/server.pem",
    )
    with mosquitto(tmp_path, "allow_anonymous true", *files) as port:
        assert check_other(home, port) == [
            "NO   refuses a client without a certificate: it was let in, though only who has a "
            "certificate of your authority may enter"
        ]


def test_check_finds_plaintext(home: Home, tmp_path: Path) -> None:
    home.good("broker", "init", "localhost")
    with mosquitto(tmp_path, "allow_anonymous true") as port:
        (line,) = check_other(home, port)
    assert line.startswith(
        ("NO   speaks TLS: it hung up", "NO   speaks TLS: it does not answer in TLS")
    )


def test_check_finds_a_bad_client(home: Home, tmp_path: Path) -> None:
    home.good("broker", "init", "localhost")
    server = tmp_path / "server.pem"
    issued = Authority.create(tmp_path / "ca", passphrase=None).issue_server(["localhost"])
    server.touch(mode=0o600)
    server.write_bytes(issued.key_pem() + issued.chain_pem())
    with mosquitto(tmp_path / "run", f"certfile {server}", f"keyfile {server}") as port:
        (line,) = check_other(home, port)
    assert line.startswith("NO   proves who it is: its certificate is not from your authority")


def test_check_finds_that_nothing_renews_the_certificate(home: Home, tmp_path: Path) -> None:
    """What a stopped timer looks like from outside, half a life before it locks anyone out."""
    home.good("broker", "init", "localhost")
    key = generate_key("p256")
    now = home.authority.now
    root = Issuer(
        home.authority.root, load_key(home.directory / "ca" / "root.key", home.authority.root, None)
    )
    old = leaf_certificate(
        SERVER,
        "localhost",
        [x509.DNSName("localhost")],
        key.public_key(),
        now - timedelta(days=46),
        now + timedelta(days=44),
        root,
    )
    (home.broker / "server.pem").write_bytes(key_pem(key) + certificate_pem(old))
    BrokerConfig.open(home.broker).changed(port=free_port("127.0.0.1"))
    with BrokerProcess(home.broker, engine="amqtt"):
        status, out, err = home.run("broker", "check")
    assert status == 1
    assert "NO   is renewed in time: the certificate that it shows runs out on" in out
    assert "warning: its certificate runs out on" in err


def test_settings_hold_no_secret(home: Home) -> None:
    home.good("broker", "init", "localhost", "--passwords")
    text = (home.broker / "broker.json").read_text()
    assert "PRIVATE" not in text
    assert json.loads(text)["passwords"] is True
