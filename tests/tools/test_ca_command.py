"""The command `ca`, as a person uses it."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from support.requirements import require_program
from support.speed import seconds
from support.terminal import CTRL_D, Terminal

SCRIPT = str(Path(__file__).parent.parent.parent / "tools" / "ca.py")
PASSPHRASE = "correct horse battery"


class Home:
    """A home directory with the command `ca` run in it."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.secret = directory / "passphrase"
        self.secret.touch(mode=0o600)
        self.secret.write_text(PASSPHRASE + "\n")
        self._capture = capture

    def run(self, *arguments: str | Path, signs: bool = True) -> tuple[int, str, str]:
        """Run the command; return its exit status, what it printed, and what it complained
        about.
        """
        options = ["--passphrase-file", str(self.secret)] if signs else []
        status = main([*map(str, arguments), "--home", str(self.directory), *options], command="ca")
        printed = self._capture.readouterr()
        return status, printed.out, printed.err

    def good(self, *arguments: str | Path, signs: bool = True) -> str:
        """Run the command, which must succeed; return what it printed."""
        status, out, err = self.run(*arguments, signs=signs)
        assert (status, err) == (0, "")
        return out

    def bad(self, *arguments: str | Path, signs: bool = True) -> str:
        """Run the command, which must fail with one line on stderr and nothing else; return that
        line.
        """
        status, out, err = self.run(*arguments, signs=signs)
        assert (status, out, err.count("\n")) == (1, "", 1)
        return err

    def issued(self, role: str, subject: str, name: str) -> bytes:
        """Return a file that the command wrote in the default place."""
        return (self.directory / "ca" / "issued" / role / subject / name).read_bytes()


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    """Make a home without an authority."""
    return Home(tmp_path, capsys)


@pytest.fixture
def home(empty: Home) -> Home:
    """Make a home with an authority."""
    empty.good("init", "--name", "Our farm")
    return empty


def test_the_recipes_people_do_by_hand_are_a_command_each(home: Home, tmp_path: Path) -> None:
    assert "mqtt.local" in home.good("server", "mqtt.local", "192.168.1.5")
    assert "greenhouse-1" in home.good("device", "greenhouse-1")
    request = [
        require_program("openssl"),
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]
    request += [
        "-nodes",
        "-keyout",
        str(tmp_path / "own.key"),
        "-subj",
        "/CN=own",
        "-out",
        str(tmp_path / "own.csr"),
    ]
    subprocess.run(request, check=True, capture_output=True, timeout=seconds(30))
    assert "own" in home.good("sign", tmp_path / "own.csr")
    # again where a key of ours lies, as of a device that was revoked
    old = home.directory / "ca" / "issued" / "devices" / "own" / "device.key"
    old.write_bytes(home.issued("devices", "greenhouse-1", "device.key"))
    status, _, err = home.run("sign", tmp_path / "own.csr", "--renew")
    assert status == 0
    assert err.endswith(
        f"{old} is the key of a certificate before this one, and does not fit it: delete it\n"
    )
    old.write_bytes((tmp_path / "own.key").read_bytes())
    home.good("sign", tmp_path / "own.csr", "--renew")
    old.unlink()
    ca = home.directory / "ca"
    for role, subject in (
        ("servers", "mqtt.local"),
        ("devices", "greenhouse-1"),
        ("devices", "own"),
    ):
        leaf = ca / "issued" / role / subject / f"{role[:-1]}.crt"
        check = [
            require_program("openssl"),
            "verify",
            "-x509_strict",
            "-CAfile",
            leaf.parent / "ca.crt",
            leaf,
        ]
        assert (
            subprocess.run(check, capture_output=True, timeout=seconds(30), check=False).returncode
            == 0
        )
    assert not (ca / "issued" / "devices" / "own" / "device.key").exists()
    assert "Revoked device greenhouse-1" in home.good(
        "revoke", "greenhouse-1", "--reason", "keyCompromise"
    )
    assert len(x509.load_pem_x509_crl((ca / "crl.pem").read_bytes())) == 1
    home.good("crl", "--days", "90", "--out", tmp_path / "broker" / "crl.pem")
    assert (tmp_path / "broker" / "crl.pem").read_bytes() == (ca / "crl.pem").read_bytes()


def test_a_new_crl_goes_to_the_broker_of_the_same_home(home: Home) -> None:
    broker = home.directory / "broker" / "crl.pem"
    broker.parent.mkdir()
    broker.write_text("old")
    home.good("device", "one")
    assert f"Given to the broker as well: {broker}" in home.good("revoke", "one")
    assert broker.read_bytes() == (home.directory / "ca" / "crl.pem").read_bytes()


@pytest.mark.parametrize("arguments", [("revoke", "mqtt.local"), ("renew", "mqtt.local")], ids=str)
def test_revoking_a_server_promises_nothing_that_no_device_can_know(
    home: Home, arguments: tuple[str, ...]
) -> None:
    home.good("server", "mqtt.local", "--days", "60")
    home.good("device", "pump")
    (entry,) = Authority.open(home.directory / "ca").find("mqtt.local")
    options = ["--revoke-old"] if arguments[0] == "renew" else ["--role", "server"]
    out = home.good(*arguments, *options)
    assert (
        "Devices check no CRL: whoever has the old key can pass for mqtt.local until "
        f"{entry.not_after:%Y-%m-%d}" in out
    )
    assert "Devices check no CRL" not in home.good("revoke", "pump")


def test_a_key_without_a_passphrase_takes_many_words(empty: Home) -> None:
    assert "not encrypted: whoever reads them" in empty.good(
        "init", "--leave-keys-unencrypted", signs=False
    )
    load_pem_private_key((empty.directory / "ca" / "root.key").read_bytes(), None)


def test_an_intermediate_lets_the_root_go_offline(empty: Home) -> None:
    said = empty.good("init", "--intermediate")
    assert "root.key offline: only securemqtt ca renew-intermediate, ca replace" in said
    assert f"Keep a backup of {empty.directory}. Next: " in said  # as getting-started.md has it
    (empty.directory / "ca" / "root.key").unlink()
    empty.good("device", "one")
    assert empty.issued("devices", "one", "device.crt").count(b"BEGIN CERTIFICATE") == 2


def test_renewing_replaces_the_files(home: Home) -> None:
    home.good("device", "one")
    before = home.issued("devices", "one", "device.key")
    assert "use ca renew (or the option --renew)" in home.bad("device", "one")
    assert home.issued("devices", "one", "device.key") == before
    assert "CRL 20" in home.good("renew", "one", "--revoke-old", "--days", "100")
    certificate = x509.load_pem_x509_certificate(home.issued("devices", "one", "device.crt"))
    key = load_pem_private_key(home.issued("devices", "one", "device.key"), None)
    assert (
        key.public_key(),
        key.public_key() == load_pem_private_key(before, None).public_key(),
    ) == (
        certificate.public_key(),
        False,
    )
    home.good("device", "one", "--renew")


def test_several_devices_are_issued_all_or_none(home: Home, tmp_path: Path) -> None:
    home.good("device", "b")
    assert "device b has a certificate" in home.bad(
        "device", "a", "b", "c", "--out", tmp_path / "out"
    )
    assert [entry["subject"] for entry in json.loads(home.good("list", "--json", signs=False))] == [
        "b"
    ]
    home.good("device", "a", "c", "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]


def test_a_device_key_can_be_encrypted_or_in_der(home: Home, tmp_path: Path) -> None:
    secret = tmp_path / "key-passphrase"
    secret.touch(mode=0o600)
    secret.write_text("another long passphrase")
    home.good("device", "pi", "--key-passphrase-file", secret)
    load_pem_private_key(home.issued("devices", "pi", "device.key"), b"another long passphrase")
    home.good("device", "board", "--der", "--key-type", "rsa2048")
    assert home.issued("devices", "board", "device.der")[:1] == b"\x30"
    assert "are the same" in home.bad("device", "x", "--key-passphrase-file", home.secret)


def test_list_and_show_speak_to_people_and_programs(home: Home) -> None:
    home.good("device", "soon", "--days", "20")
    home.good("device", "later")
    home.good("server", "mqtt.local")
    home.good("revoke", "later")
    assert re.search(
        r"soon +device +issued .* 20 +p256", home.good("list", "--expiring", "30", signs=False)
    )
    assert "later" not in home.good("list", "--expiring", "9999", signs=False)
    assert "No certificate to show." in home.good("list", "--state", "expired", signs=False)
    listed = json.loads(home.good("list", "--json", signs=False))
    assert {entry["subject"]: entry["state"] for entry in listed} == {
        "soon": "issued",
        "later": "revoked",
        "mqtt.local": "issued",
    }
    assert re.search(
        r"state +revoked on .* UTC, reason: unspecified, in CRL 20",
        home.good("show", "later", signs=False),
    )
    serial = listed[0]["serial"]
    assert json.loads(home.good("show", serial[:12], "--json", signs=False))[0]["serial"] == serial
    about = json.loads(home.good("show", "--json", signs=False))
    assert about["certificates"] == {"issued": 2, "superseded": 0, "revoked": 1, "expired": 0}
    assert about["root"]["subject"] == "CN=Our farm"
    newest = Authority.open(home.directory / "ca").inventory.newest_crl()
    assert newest is not None
    assert about["crl"]["number"] == newest.number
    assert "CN=Our farm" in home.good("show", signs=False)
    root = x509.load_pem_x509_certificate(home.good("show", "--pem", signs=False).encode())
    assert root == Authority.open(home.directory / "ca").root


def test_an_inventory_of_somebody_elses_forges_no_line(home: Home) -> None:
    home.good("device", "fern")
    serial = json.loads(home.good("list", "--json", signs=False))[0]["serial"]
    evil = "fern\x1b[2J\r\nother device issued\u202e\u2028\x9b7m"
    with contextlib.closing(sqlite3.connect(home.directory / "ca" / "inventory.sqlite")) as base:
        change = "UPDATE certificate SET subject = ?, names = ?, key_type = ? WHERE serial = ?"
        base.execute(change, (evil, json.dumps([evil]), "[red]" + evil, serial))
        base.commit()
    shown = r"fern\x1b[2J\x0d\x0aother device issued\u202e\u2028\x9b7m"
    for command in (("list",), ("show", serial)):
        printed = home.good(*command, signs=False)
        assert shown in "".join(printed.split("\n")).replace("  ", "")
        assert all(line.isprintable() for line in printed.split("\n"))
    assert "[red]fern" in home.good("list", signs=False)
    revoked = home.good("revoke", serial).split("\n")
    assert revoked[0] == f"Revoked device {shown}, serial {serial}."
    assert all(line.isprintable() for line in revoked)
    # What a person types, or pastes, is shown, too.
    assert r"nothing was ever issued to \x1b[2J\x0asecuremqtt: done" in home.bad(
        "show", "\x1b[2J\nsecuremqtt: done", signs=False
    )


def test_a_crl_that_runs_out_is_warned_of_on_every_occasion(home: Home) -> None:
    home.good("crl", "--days", "1")
    authority = Authority.open(home.directory / "ca")
    with authority.inventory.transaction() as connection:
        connection.execute("UPDATE crl SET next_update = issued_at - 86400")
    status, _, complaint = home.run("list", signs=False)
    assert status == 0
    assert re.fullmatch(
        r"securemqtt: warning: the CRL ran out on .* refuses every device; .*\n", complaint
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["device", "a/b"], "'a/b' is no device id"),
        (["server", "mqtt.local:8883"], "neither a host name nor an IP address"),
        (["device", "a", "--days", "0"], "must be a whole number from 1 to 36500 days, not '0'"),
        (["device", "a", "--days", "٣"], "must be a whole number from 1 to 36500 days"),
        (["crl", "--days", "9" * 5000], "argument --days: must be a whole number from 1 to 36500"),
        (["list", "--expiring", "99999999999"], "argument --expiring: must be a whole number"),
        (["list", "--expiring", "-1"], "argument --expiring: must be a whole number from 0 to"),
        (["list", "--expiring", "1_0"], "argument --expiring: must be a whole number from 0 to"),
        (["device", "a", "--days", "36500"], "36500 days is out of range"),
        (["renew", "nobody"], "nothing was ever issued to nobody"),
        (["revoke", "nobody"], "nothing was ever issued to nobody"),
        (["sign", "/nonexistent.csr"], "cannot read /nonexistent.csr: No such file"),
        (["init"], "there is a certificate authority in"),
        (["init", "--name", "x" * 51], "there is a certificate authority in"),
        (["renew-intermediate"], "has no intermediate"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(
    home: Home, arguments: list[str], message: str
) -> None:
    assert message in home.bad(*arguments)
    assert json.loads(home.good("list", "--json", signs=False)) == []


def test_without_an_authority_every_command_says_what_to_do(empty: Home) -> None:
    assert "make one with securemqtt ca init" in empty.bad("device", "one")
    assert "make one with securemqtt ca init" in empty.bad("list", signs=False)
    assert "cannot name an authority" in empty.bad("init", "--name", "x" * 51)
    assert not (empty.directory / "ca").exists()


def test_a_passphrase_file_must_be_private_and_long_enough(empty: Home) -> None:
    empty.secret.write_text("short")
    assert "too short: use 12 characters or more" in empty.bad("init")
    empty.secret.write_text("two lines\nof passphrase\n")
    assert "must hold one line" in empty.bad("init")
    empty.secret.write_text(PASSPHRASE)
    empty.secret.chmod(0o644)
    assert "run chmod 600" in empty.bad("init")
    assert not (empty.directory / "ca").exists()


def test_a_wrong_passphrase_changes_nothing(home: Home) -> None:
    home.good("device", "one")
    home.secret.write_text("a wrong passphrase")
    for arguments in (["revoke", "one"], ["device", "two"], ["renew", "one"], ["crl"]):
        assert "wrong passphrase for" in home.bad(*arguments)
    assert [entry["state"] for entry in json.loads(home.good("list", "--json", signs=False))] == [
        "issued"
    ]


def test_a_passphrase_is_never_an_argument(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "one", "--passphrase", PASSPHRASE], command="ca") == 1
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["init", "server", "device", "sign", "renew", "revoke", "crl", "list", "show"]
)
def test_every_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"], command="ca")
    assert f"Examples:\n  securemqtt ca {command}" in capsys.readouterr().out


def test_the_script_reads_a_passphrase_from_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "init", "--home", str(tmp_path), "--passphrase-file", "-"]
    subprocess.run(
        command,
        input=PASSPHRASE + "\n",
        text=True,
        check=True,
        capture_output=True,
        timeout=seconds(60),
    )
    Authority.open(tmp_path / "ca", PASSPHRASE.encode()).issue_device("one")


def test_without_a_terminal_the_script_says_how_to_give_a_passphrase(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "init", "--home", str(tmp_path)]
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
        timeout=seconds(60),
        check=False,
        start_new_session=True,
    )
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "give --passphrase-file FILE (- for standard input)" in result.stderr


def _init(home: Path) -> Terminal:
    return Terminal([sys.executable, SCRIPT, "init", "--home", str(home)])


def test_the_prompt_shows_nothing_of_what_is_typed(tmp_path: Path) -> None:
    with _init(tmp_path) as terminal:
        terminal.answer("(12 characters or more): ", PASSPHRASE + "\n")
        terminal.answer("The same again: ", PASSPHRASE + "\n")
        assert terminal.end() == 0
    assert PASSPHRASE not in terminal.seen
    Authority.open(tmp_path / "ca", PASSPHRASE.encode()).issue_device("one")


def test_a_slip_of_the_finger_makes_no_authority(tmp_path: Path) -> None:
    with _init(tmp_path) as terminal:
        terminal.answer("(12 characters or more): ", PASSPHRASE + "\n")
        terminal.answer("The same again: ", PASSPHRASE + "x\n")
        assert terminal.end() == 1
    assert "the two passphrases differ" in terminal.seen
    assert not (tmp_path / "ca").exists()


def test_ctrl_d_at_the_prompt_is_one_line(tmp_path: Path) -> None:
    with _init(tmp_path) as terminal:
        terminal.answer("(12 characters or more): ", CTRL_D)
        assert terminal.end() == 1
    assert terminal.seen.endswith("\r\nsecuremqtt: nothing was entered, so nothing was done\r\n")
    assert not (tmp_path / "ca").exists()
