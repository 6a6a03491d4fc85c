"""The command `provision` against a simulated board: real mpremote, real littlefs, real broker."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from securemqtt_tools.profiles import load_profile
from securemqtt_tools.provision.board import umqtt
from securemqtt_tools.provision.board.files import write
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.provision.board.survey import ask_facts
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import (
    WIFI_PASSWORD,
    Provisioner,
    contents,
    files_holding,
    forms_of,
    read,
)
from support.boards.simboard import mpremote
from support.brokers.mqtt import Peer, client_context
from support.identities.credentials import issued_credentials

ROOT = Path(__file__).resolve().parents[2]


def test_one_command_and_the_board_publishes_and_takes_commands(
    provisioner: Provisioner,
    simulated_board: SimulatedBoard,
    authority: Authority,
    broker: BrokerProcess,
    tmp_path: Path,
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    operator = issued_credentials(tmp_path, authority.issue_device("controller", renew=True))
    with Peer(broker.port, client_context(ca, operator)) as controller:
        controller.connect("controller")
        controller.subscribe("devices/whole-way/#")
        outcome = provisioner.board(simulated_board, "whole-way", *provisioner.wifi)
        assert (outcome.status, outcome.err) == (0, "")
        assert "message acknowledged" in outcome.out and "whole-way is ready" in outcome.out
        topics: dict[str, bytes] = {}
        while "devices/whole-way/reading" not in topics:
            topics.update([controller.receive()])
        assert b"heap_free" in topics["devices/whole-way/provisioned"]
        controller.publish("devices/whole-way/command/interval", b"0.5")
        while "devices/whole-way/answer/interval" not in topics:
            topics.update([controller.receive()])
        assert json.loads(topics["devices/whole-way/answer/interval"]) == {
            "received": "0.5",
            "interval_s": 0.5,
        }


def test_a_second_run_changes_nothing_and_says_so(
    provisioner: Provisioner, simulated_board: SimulatedBoard
) -> None:
    assert provisioner.board(simulated_board, "second-run", *provisioner.wifi).status == 0
    held = contents(simulated_board)
    operations = simulated_board.stats().operations
    outcome = provisioner.board(simulated_board, "second-run", *provisioner.wifi)
    assert outcome.status == 0
    assert "there was nothing to change" in outcome.out and "message acknowledged" in outcome.out
    assert contents(simulated_board) == held
    assert simulated_board.stats().operations == operations


def test_only_what_differs_is_copied(
    provisioner: Provisioner, simulated_board: SimulatedBoard
) -> None:
    provisioner.board(simulated_board, "differs", *provisioner.wifi)
    good = contents(simulated_board)
    with Board(simulated_board.port) as link:
        link.run("with open('/lib/securemqtt/errors.mpy','ab') as f:f.write(b'rot')")
        write(
            link,
            "/lib/securemqtt/client.py",
            b"a module of a checkout, which would be taken before ours",
        )
        write(link, "/lib/securemqtt/gone.mpy", b"a module of another version")
        write(link, "/secure/device.key.der.new", b"what an interrupted run leaves")
        write(link, "/data.txt", b"the user's own")
    outcome = provisioner.board(simulated_board, "differs")
    assert "Library: 1 of" in outcome.out
    assert contents(simulated_board) == {
        **good,
        "/data.txt": contents(simulated_board)["/data.txt"],
    }


def test_a_second_board_with_another_program_compiles_nothing(
    provisioner: Provisioner,
    simulated_board: SimulatedBoard,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    own = tmp_path / "own.py"
    own.write_text("print('own program')\n")
    provisioner.board(simulated_board, "compiled-1", *provisioner.wifi, "--no-connect")
    good = contents(simulated_board)
    request.getfixturevalue("idle_mpy_cross")
    with SimulatedBoard() as second:
        options = [*provisioner.wifi, "--main", str(own), "--no-connect"]
        outcome = provisioner.board(second, "compiled-2", *options)
        assert (outcome.status, outcome.err) == (0, "")
        held = contents(second)
    library = {path for path in held if path.startswith("/lib/")}
    assert "/lib/umqtt/simple.mpy" in library
    assert {path: held[path] for path in library} == {path: good.get(path) for path in library}


def test_new_settings_keep_the_certificate(
    provisioner: Provisioner, simulated_board: SimulatedBoard
) -> None:
    provisioner.board(simulated_board, "resettled", *provisioner.wifi)
    before = contents(simulated_board)
    own = {**json.loads(read(simulated_board, "/secure/config.json")), "greenhouse": "north"}
    with Board(simulated_board.port) as link:
        write(link, "/secure/config.json", json.dumps(own).encode())
    outcome = provisioner.board(simulated_board, "resettled", "--keep-alive", "30")
    after = contents(simulated_board)
    assert outcome.status == 0 and "Settings: localhost" in outcome.out
    assert {path for path in after if after[path] != before.get(path)} == {"/secure/config.json"}
    config = json.loads(read(simulated_board, "/secure/config.json"))
    assert (config["keep_alive_s"], config["greenhouse"], config["clock_floor"]) == (
        30,
        "north",
        config["clock_floor"],
    )
    assert config["outbox_journal_bytes"] == load_profile("simulated").journal_bytes


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    provisioner: Provisioner, simulated_board: SimulatedBoard, authority: Authority
) -> None:
    with Board(simulated_board.port) as link:
        clock_s = ask_facts(link).clock_s
    held, issued = contents(simulated_board), len(authority.inventory.entries())
    outcome = provisioner.board(simulated_board, "dry", *provisioner.wifi, "--dry-run")
    assert outcome.status == 0
    for change in (
        "files to /lib/securemqtt",
        "/main.py",
        "wifi.json",
        "issue a certificate",
        "nothing was changed",
    ):
        assert change in outcome.out
    assert contents(simulated_board) == held == {}
    assert len(authority.inventory.entries()) == issued
    with Board(simulated_board.port) as link:
        assert ask_facts(link).clock_s - clock_s < 3600


def test_a_dry_run_downloads_nothing(
    provisioner: Provisioner, simulated_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = provisioner.home / "cache" / "umqtt.simple"
    cache.rename(cache.with_name("away"))
    outcome = provisioner.board(simulated_board, "dry-umqtt", *provisioner.wifi, "--dry-run")
    assert "would download umqtt.simple" in outcome.out
    assert not cache.exists()


def test_the_second_board_works_offline(
    provisioner: Provisioner, simulated_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(umqtt, "_INDEX", "https://127.0.0.1:9")
    monkeypatch.setattr(umqtt, "_PYPI", "https://127.0.0.1:9/simple/")
    outcome = provisioner.board(simulated_board, "offline", *provisioner.wifi)
    assert outcome.status == 0
    assert "/lib/umqtt/simple.mpy" in contents(simulated_board)
    damaged = provisioner.home / "cache" / "umqtt.simple" / "umqtt" / "simple.py"
    damaged.write_text("import os")
    mpremote(simulated_board, "resume", "fs", "rm", ":/lib/umqtt/simple.mpy")
    outcome = provisioner.board(simulated_board, "offline")
    assert outcome.status == 1
    assert outcome.said("umqtt.simple", "cannot be downloaded", "go online once")


def test_no_secret_stays_on_the_host(
    provisioner: Provisioner,
    simulated_board: SimulatedBoard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    outcome = provisioner.board(simulated_board, "secretive", *provisioner.wifi)
    key = read(simulated_board, "/secure/device.key.der")
    needles = forms_of(key)
    assert all(needle not in outcome.text.encode() for needle in needles)
    assert files_holding([provisioner.home, provisioner.home / "ca", temporary], needles) == []
    assert WIFI_PASSWORD not in outcome.text
    assert files_holding([provisioner.home, temporary], [WIFI_PASSWORD.encode()]) == [
        provisioner.home / "wifi-password"
    ]
    control = tmp_path / "control"
    control.write_bytes(key)
    assert files_holding([tmp_path], needles) == [control]


def test_programs_of_the_users_own_stay_unless_asked(
    provisioner: Provisioner, simulated_board: SimulatedBoard, tmp_path: Path
) -> None:
    own = tmp_path / "own.py"
    own.write_text("print('own program')\n")
    esp32_default = b"# This file is executed on every boot\n#import esp\n"
    with Board(simulated_board.port) as link:
        write(link, "/boot.py", esp32_default)
        write(link, "/main.py", own.read_bytes())
    outcome = provisioner.board(simulated_board, "programs", *provisioner.wifi)
    assert "/main.py is another program and stays" in outcome.out
    assert read(simulated_board, "/main.py") == own.read_bytes()
    assert read(simulated_board, "/boot.py") == (ROOT / "firmware" / "boot.py").read_bytes()
    provisioner.board(simulated_board, "programs", "--force-main")
    assert read(simulated_board, "/main.py") == (ROOT / "firmware" / "main.py").read_bytes()
    provisioner.board(simulated_board, "programs", "--main", str(own))
    assert read(simulated_board, "/main.py") == own.read_bytes()


def test_a_new_identity_goes_beside_the_old_one_which_then_goes(
    provisioner: Provisioner, simulated_board: SimulatedBoard, authority: Authority
) -> None:
    provisioner.board(simulated_board, "renewed", *provisioner.wifi)
    old = read(simulated_board, "/secure/device.der")
    outcome = provisioner.board(simulated_board, "renewed", "--renew")
    assert outcome.status == 0 and "to be renewed" in outcome.out
    config = json.loads(read(simulated_board, "/secure/config.json"))
    secure = {path for path in contents(simulated_board) if path.startswith("/secure/")}
    names = [*config["ca"], *config["certificate"], config["key"], "config.json", "wifi.json"]
    assert secure == {f"/secure/{name}" for name in names}
    assert config["key"] != "device.key.der"
    new = x509.load_der_x509_certificate(
        read(simulated_board, "/secure/" + config["certificate"][0])
    )
    assert new.public_key() != x509.load_der_x509_certificate(old).public_key()
    authority.revoke("renewed")
    outcome = provisioner.board(simulated_board, "renewed", "--no-connect")
    assert "its own is revoked" in outcome.out and outcome.status == 0


def test_a_device_needs_its_own_id(
    provisioner: Provisioner, simulated_board: SimulatedBoard, authority: Authority
) -> None:
    authority.issue_device("taken")
    outcome = provisioner.board(simulated_board, "taken", *provisioner.wifi)
    assert outcome.said("taken has a certificate", "not on this device", "--renew")
    assert provisioner.board(simulated_board, "mine", *provisioner.wifi).status == 0
    outcome = provisioner.board(simulated_board, "yours")
    assert outcome.said("this device is 'mine'", "--renew")
    assert json.loads(read(simulated_board, "/secure/config.json"))["client_id"] == "mine"
    outcome = provisioner.board(simulated_board, "yours", "--renew")
    assert outcome.status == 0
    assert json.loads(read(simulated_board, "/secure/config.json"))["client_id"] == "yours"
