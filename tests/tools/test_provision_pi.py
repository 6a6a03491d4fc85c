"""The command `provision pi`: a bundle in a directory, or through ssh."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from securemqtt import Client
from securemqtt_tools.broker import BrokerConfig, BrokerProcess, Limits
from securemqtt_tools.broker.rules import DENY, WRITE, Rule, Rules
from securemqtt_tools.broker.rules_file import read_rules, write_rules
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from securemqtt_tools.provision.bundle import RULE_KEYS
from support.boards.provisioning import Outcome, Provisioner, files_holding
from support.requirements import heeding_modes
from support.speed import seconds

_MAIN = "import sys; from securemqtt_tools.entry import main; sys.exit(main())"
# What stands in for ssh: the same command line, run by a shell of this machine whose home is
# another directory.
SSH = """#!/bin/sh
if [ "$1 $2 $3" != "-T -- pi@hub.local" ]; then
    echo "ssh: Could not resolve hostname $3" >&2
    exit 255
fi
shift 3
cd "$PI_HOME" && exec env HOME="$PI_HOME" sh -c "$*"
"""


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and permissions of what is in a directory."""
    return {
        path.name: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in directory.iterdir()
    }


def check_bundle(directory: Path, device_id: str, passphrase: bytes | None = None) -> None:
    """Assert that a bundle is whole, private and consistent."""
    held = snapshot(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {mode for _, mode in held.values()} == {0o600}
    config = json.loads(held["config.json"][0])
    assert set(held) == {*config["ca"], *config["certificate"], config["key"], "config.json"}
    certificate = x509.load_pem_x509_certificate(held[config["certificate"][0]][0])
    key = load_pem_private_key(held[config["key"]][0], passphrase)
    assert key.public_key() == certificate.public_key()
    assert config["client_id"] == device_id


def test_a_bundle_connects_and_a_second_run_changes_nothing(
    provisioner: Provisioner, tmp_path: Path, broker: BrokerProcess
) -> None:
    out = tmp_path / "bundle"
    outcome = provisioner.run("pi", "pi-hub", "--out", str(out), "--dry-run")
    assert "would issue a certificate" in outcome.out and not out.exists()
    outcome = provisioner.run("pi", "pi-hub", "--out", str(out))
    assert (outcome.status, outcome.err) == (0, "")
    check_bundle(out, "pi-hub")
    held = snapshot(out)
    program = (
        "from securemqtt import Client\nwith Client() as c: print(c.publish('~/hello', "
        f"'x').wait({seconds(10)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SECUREMQTT_BUNDLE": str(out)},
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr
    outcome = provisioner.run("pi", "pi-hub", "--out", str(out))
    assert "there was nothing to change" in outcome.out
    assert snapshot(out) == held


def test_a_lost_key_or_a_new_setting(provisioner: Provisioner, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    provisioner.run("pi", "pi-lost", "--out", str(out))
    before = snapshot(out)
    assert provisioner.run("pi", "pi-lost", "--out", str(out), "--keep-alive", "20").status == 0
    assert {name for name, held in snapshot(out).items() if held != before[name]} == {"config.json"}
    (out / "device.key").unlink()
    outcome = provisioner.run("pi", "pi-lost", "--out", str(out))
    assert "its private key is missing" in outcome.out
    check_bundle(out, "pi-lost")
    (out / "notes.pem").write_text("the user's own")
    provisioner.run("pi", "pi-lost", "--out", str(out), "--renew")
    assert (out / "notes.pem").exists()
    assert len(list(out.glob("*.key"))) == 1
    outcome = provisioner.run("pi", "pi-other", "--out", str(out))
    assert outcome.said("this device is 'pi-lost'")


def test_an_interrupted_run_is_finished_by_the_next(
    provisioner: Provisioner, tmp_path: Path, authority: Authority
) -> None:
    out = tmp_path / "bundle"
    out.mkdir(mode=0o700)
    (out / "claim.json").write_text('{"client_id": "pi-half"}')
    (out / "claim.json").chmod(0o600)
    authority.issue_device("pi-half")
    assert provisioner.run("pi", "pi-half", "--out", str(out)).status == 0
    check_bundle(out, "pi-half")


@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_a_directory_that_others_may_look_into_is_closed(
    provisioner: Provisioner, tmp_path: Path, mode: int
) -> None:
    where = ("pi", f"open-{mode:o}", "--out", str(tmp_path / "bundle"))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle").chmod(mode)
    assert "would make" in provisioner.run(*where, "--dry-run").out
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == mode
    assert provisioner.run(*where).status == 0
    check_bundle(tmp_path / "bundle", where[1])
    # and so is that of a bundle with nothing else to change
    (tmp_path / "bundle").chmod(mode)
    assert "is ready" in provisioner.run(*where).out
    check_bundle(tmp_path / "bundle", where[1])
    assert "nothing to change" in provisioner.run(*where).out


def test_a_directory_of_the_user_s_own_that_others_may_change(
    provisioner: Provisioner, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "photo.jpg").touch()
    where = ("pi", "shared", "--out", str(shared))
    outcome = provisioner.run(*where)
    assert outcome.status == 1
    assert outcome.said("more than a bundle (photo.jpg)", f"run chmod go-w {shared}"), outcome.text
    assert [path.name for path in shared.iterdir()] == ["photo.jpg"]
    shared.chmod(0o755)
    assert provisioner.run(*where).status == 0
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_what_lies_in_the_directory_and_is_no_bundle(
    provisioner: Provisioner, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    out.mkdir(0o700)
    os.mkfifo(out / "x.pem")
    os.mkfifo(out / "x.key", 0o600)
    (out / "config.json").write_bytes(b"[" * 100000)
    outcome = provisioner.run("pi", "odd-place", "--out", str(out))
    assert (outcome.status, outcome.err) == (0, ""), outcome.text
    (out / "x.pem").unlink()
    with (out / "x.pem").open("wb") as file:
        file.truncate(1 << 40)
    assert provisioner.run("pi", "odd-place", "--out", str(out)).said("x.pem is larger than 4 MB")


def test_an_encrypted_key(provisioner: Provisioner, tmp_path: Path) -> None:
    out, file = tmp_path / "bundle", tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text("four random words here\n")
    options = ["--out", str(out), "--key-passphrase-file", str(file)]
    assert provisioner.run("pi", "pi-locked", *options).status == 0
    check_bundle(out, "pi-locked", b"four random words here")
    assert "there was nothing to change" in provisioner.run("pi", "pi-locked", *options).out


def test_through_ssh(
    provisioner: Provisioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, home = tmp_path / "bin" / "ssh", tmp_path / "pi"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(0o755)
    home.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PI_HOME", str(home))

    def run(target: str = "pi@hub.local", *options: str) -> Outcome:
        return provisioner.run("pi", "pi-far", f"--ssh={target}", *options)

    outcome = run()
    assert (outcome.status, outcome.err) == (0, "")
    place = home / ".config" / "securemqtt"
    check_bundle(place, "pi-far")
    key = (place / "device.key").read_bytes()
    secret = key.splitlines()[2]
    assert files_holding([provisioner.home], [secret]) == [] and secret.decode() not in outcome.text
    held = snapshot(place)
    assert "there was nothing to change" in run().out
    assert snapshot(place) == held
    (place / "device.key").write_bytes(b"rot")
    assert "its private key is missing or is another's" in run().out
    check_bundle(place, "pi-far")
    secret_file = tmp_path / "lamp.password"
    secret_file.touch(0o600)
    secret_file.write_text("of this Pi alone\n")
    login = ("pi@hub.local", "--password-file", str(secret_file))
    assert "of this Pi alone" not in run(*login).text
    assert snapshot(place)["device.password"] == (b"of this Pi alone", 0o600)
    assert "there was nothing to change" in run(*login).out
    assert run("pi@elsewhere").said(
        "ssh to pi@elsewhere failed", "Could not resolve hostname", "by hand"
    )
    assert run("-oProxyCommand=x").said("is no ssh destination")


def test_a_place_is_needed(
    provisioner: Provisioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = provisioner.run("pi", "placeless", "--out", "")
    assert outcome.said("argument --out: must name a directory, and is empty"), outcome.text
    assert provisioner.run("pi", "nowhere").said("--out DIR or --ssh USER@HOST")
    assert provisioner.run("pi", "nowhere", "--out", str(tmp_path), "--wifi", "x").said(
        "--wifi is for boards only"
    )
    (tmp_path / "file").write_text("")
    assert provisioner.run("pi", "nowhere", "--out", str(tmp_path / "file" / "x")).status == 1


def test_a_bundle_says_what_our_own_broker_lets_it_do(
    provisioner: Provisioner, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    BrokerConfig.create(
        provisioner.home / "broker",
        provisioner.authority,
        names=["mqtt.local"],
        roles={"boss": "operator"},
    )

    def config(device_id: str, broker: str, warning: str = "") -> dict[str, object]:
        outcome = provisioner.run("pi", device_id, "--out", str(out), broker=broker)
        assert outcome.status == 0
        assert outcome.err == (f"securemqtt: warning: {warning}\n" if warning else "")
        return dict(json.loads((out / "config.json").read_bytes()))

    held = config("boss", "mqtt.local")
    assert held["may_publish"] == ["devices/boss/#", "devices/+/command/#"]
    assert held["may_subscribe"] == ["devices/boss/#", "devices/#"]
    assert held["max_publish_bytes"] == Limits().packet_bytes
    alarm, more = Rule("boss", False, WRITE, "alarm"), Rule("boss", False, WRITE, "log/#")
    denied = Rule("boss", False, DENY, "alarm"), Rule("boss", False, DENY, "devices/boss/raw/#")
    write_rules(provisioner.home / "broker", Rules(1, lines=(alarm, more, *denied)))
    own = ["devices/boss/#", "devices/+/command/#", "log/#"]  # a part of one cannot be left out
    assert config("boss", "mqtt.local")["may_publish"] == own
    everything = Rule("boss", False, DENY, "#")
    write_rules(provisioner.home / "broker", Rules(2, lines=(everything,)))
    assert config("boss", "mqtt.local")["may_publish"] == []
    Client(out).disconnect()  # takes that
    write_rules(provisioner.home / "broker", Rules(3))
    config("boss", "mqtt.local")
    arguments = ("pi", "boss", "--out", str(out), "--keep-alive", "3601")
    outcome = provisioner.run(*arguments, broker="mqtt.local")
    assert outcome.status == 1 and "allows 3600 s at most" in outcome.err
    # Another broker's rules are not known, and those of ours are not said of it.
    for broker, warning in (
        ("other.local", "other.local is no name of your broker (mqtt.local)"),
        ("mqtt.local:8884", "8884 is no port of your broker (8883)"),
    ):
        config("boss", "mqtt.local")
        assert not set(config("boss", broker, warning)) & set(RULE_KEYS)


def test_our_own_broker_s_port_needs_not_be_given(
    provisioner: Provisioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, out = provisioner.home / "broker", tmp_path / "the bundle"
    names = ["Localhost", "127.0.0.1"]
    ours = BrokerConfig.create(directory, provisioner.authority, names=names, port=0)
    arguments = ("pi", "pi-port", "--out", str(out))
    outcome = provisioner.run(*arguments, broker="localhost")
    assert outcome.said("your broker takes its port when it first starts", "--broker HOST:PORT")
    ours.changed(port=provisioner.broker_port)
    outcome = provisioner.run(*arguments, broker="localhost")
    assert (outcome.status, outcome.err) == (0, "")
    config = json.loads((out / "config.json").read_bytes())
    assert config["port"] == provisioner.broker_port
    assert config["may_publish"] == ["devices/pi-port/#"]
    # What is proposed then does show that it reaches its broker.
    (line,) = (one for one in outcome.out.splitlines() if one.startswith("Try it: "))
    assert line == f"Try it: securemqtt pub '~/hello' hi --bundle '{out}'"
    assert main(shlex.split(line)[3:]) == 0
    monkeypatch.setenv("SECUREMQTT_BUNDLE", str(out))
    assert provisioner.run(*arguments).out.endswith("Try it: securemqtt pub '~/hello' hi\n")
    outcome = provisioner.run(*arguments, broker="locahlost")
    assert outcome.status == 0
    assert outcome.err == (
        "securemqtt: warning: locahlost is no name of your broker (localhost, 127.0.0.1)\n"
    )


def test_what_to_try_names_the_bundle_where_no_usual_place_is_it(
    provisioner: Provisioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/etc/securemqtt").exists():
        pytest.skip("this computer has a bundle in /etc/securemqtt")
    (tmp_path / ".config").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SECUREMQTT_BUNDLE", raising=False)
    (tmp_path / "here").mkdir(0o700)
    monkeypatch.chdir(tmp_path / "here")
    outcome = provisioner.run("pi", "pi-here", "--out", ".")
    assert outcome.out.endswith("Try it: securemqtt pub '~/hello' hi --bundle .\n")
    # One that this user may not look into, as root's /etc/securemqtt.
    (tmp_path / ".config").chmod(0)
    broker = f"localhost:{provisioner.broker_port}"
    done = subprocess.run(
        [
            *(*heeding_modes(), sys.executable, "-c", _MAIN, "provision", "pi", "--id", "pi-here"),
            *("--out", ".", "--broker", broker, "--home", str(provisioner.home)),
        ],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    (tmp_path / ".config").chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Try it: securemqtt pub '~/hello' hi --bundle .\n")


def test_it_joins_groups_and_knows_their_rules(provisioner: Provisioner, tmp_path: Path) -> None:
    out, home = tmp_path / "bundle", provisioner.home
    (home / "ca").unlink()
    Authority.create(home / "ca", passphrase=None)  # in which nobody is called like the group
    names = ["localhost"]
    BrokerConfig.create(home / "broker", provisioner.authority, names=names, port=8883)
    allow = ["allow", "greenhouse", "write", "weather/#", "--home", str(home)]
    assert main(["group", "greenhouse", "other", "--home", str(home)], command="broker") == 0
    assert main(allow, command="broker") == 0
    arguments = ("pi", "pi-grouped", "--out", str(out), "--group", "greenhouse")
    outcome = provisioner.run(*arguments, "--dry-run", broker="localhost")
    assert "It would join group greenhouse." in outcome.out
    assert read_rules(home / "ca").groups["greenhouse"] == {"other"}
    outcome = provisioner.run(*arguments, broker="localhost")
    assert (outcome.status, outcome.err) == (0, "")
    assert "In group greenhouse: pi-grouped.\n" in outcome.out
    assert read_rules(home / "ca").groups["greenhouse"] == {"other", "pi-grouped"}
    config = json.loads((out / "config.json").read_bytes())
    assert config["may_publish"] == ["devices/pi-grouped/#", "weather/#"]
    again = provisioner.run(*arguments, broker="localhost")
    assert "up to date" in again.out and "In group" not in again.out


def test_a_prefix_that_our_own_broker_forbids(provisioner: Provisioner, tmp_path: Path) -> None:
    BrokerConfig.create(provisioner.home / "broker", provisioner.authority, names=["localhost"])
    arguments = ("pi", "prefixed", "--out", str(tmp_path / "bundle"), "--prefix")
    outcome = provisioner.run(*arguments, "farm/x", broker="localhost")
    assert outcome.said("--prefix farm/x: your own broker lets prefixed use devices/prefixed/#")
    assert not (tmp_path / "bundle").exists()
    assert provisioner.run(*arguments, "devices/prefixed/a", broker="localhost").status == 0
    assert provisioner.run(*arguments, "farm/x", broker="other.local").status == 0
