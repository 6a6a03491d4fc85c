"""Promise 4, the files of the bundle; remedies that are commands are run, and must cure."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.identities.laboratory import RUN_S, Device, Laboratory


def test_no_bundle(device: Device, tmp_path: Path) -> None:
    report = device.fails(tmp_path, "BundleNotFound")
    assert str(tmp_path) in report.what and "SECUREMQTT_BUNDLE" in report.remedy


@pytest.mark.parametrize("name", ["ca0.crt", "device0.crt", "device.key"])
def test_missing_file(lab: Laboratory, device: Device, name: str) -> None:
    bundle = lab.bundle(device, 8883)
    (bundle / name).unlink()
    report = device.fails(bundle, "FileMissing")
    assert str(bundle / name) in report.what and "securemqtt provision" in report.remedy


def test_a_missing_password_is_to_be_written(
    lab: Laboratory, device: Device, mosquitto_port: int
) -> None:
    bundle = lab.bundle(device, mosquitto_port)
    config = json.loads((bundle / "config.json").read_text())
    config.update(username="somebody", password_file="password")
    (bundle / "config.json").write_text(json.dumps(config))
    report = device.fails(bundle, "FileMissing")
    path = bundle / "password"
    assert f"{path} cannot be read" in report.what
    assert f"write the password into it, alone, then chmod 600 {path};" in report.remedy
    assert "provision" not in report.remedy
    path.write_text("secret\n")
    path.chmod(0o600)
    assert device.run(bundle) is None


@pytest.mark.parametrize("spoiled", ["missing", "truncated", "another's"])
def test_files_without_a_bundle_are_put_right_and_not_provisioned(
    lab: Laboratory, spoiled: str, mosquitto_port: int
) -> None:
    pi = Device("cpython")
    bundle = lab.bundle(pi, mosquitto_port)
    key = bundle / "device.key"
    if spoiled == "missing":
        key.unlink()
    elif spoiled == "truncated":
        os.truncate(key, 100)
    else:
        key.write_bytes((lab.bundle(pi, mosquitto_port) / "device.key").read_bytes())
    expected = {"missing": "Missing", "truncated": "Truncated"}.get(spoiled)
    report = pi.fails(bundle, f"File{expected}" if expected else "KeyMismatch")
    own, _, provisioned = report.remedy.partition("; ")
    assert own.startswith("a file" if expected else "files") and "that you named yourself:" in own
    assert provisioned.startswith("a bundle: provision the device again: securemqtt provision ")


@pytest.mark.parametrize("name", ["ca0.crt", "device0.crt", "device.key", "config.json"])
@pytest.mark.parametrize("size", [0, 100])
def test_truncated_file(lab: Laboratory, device: Device, name: str, size: int) -> None:
    bundle = lab.bundle(device, 8883)
    os.truncate(bundle / name, size)
    report = device.fails(bundle, "FileTruncated")
    assert str(bundle / name) in report.what


@pytest.mark.parametrize("name", ["device0.crt", "device.key"])
def test_other_encoding(lab: Laboratory, device: Device, name: str) -> None:
    bundle = lab.bundle(device, 8883)
    issued = lab.now.issue_device(lab.new_id())
    other = {
        "device0.crt": issued.certificate_pem() if device.is_board else issued.certificate_der(),
        "device.key": issued.key_pem() if device.is_board else issued.key_der(),
    }
    (bundle / name).write_bytes(other[name])
    report = device.fails(bundle, "WrongEncoding")
    assert str(bundle / name) in report.what
    assert (
        "PEM, and DER is needed" if device.is_board else "DER, and PEM is needed"
    ) in report.what
    assert f"openssl {'pkey' if name == 'device.key' else 'x509'} " in report.remedy


def test_remedy_for_der_on_a_pi(lab: Laboratory, mosquitto_port: int) -> None:
    pi, board = Device("cpython"), Device("micropython")
    bundle = lab.bundle(board, mosquitto_port)
    config = json.loads((bundle / "config.json").read_text())
    for key, name in (("key", "device.key"), ("certificate", "device0.crt")):
        remedy = pi.fails(bundle, "WrongEncoding").remedy
        commands, _, _ = remedy.rpartition(", and name that file in config.json")
        for command in commands.split(", "):
            subprocess.run(command.split(), check=True, capture_output=True, timeout=RUN_S)
        config[key] = f"{name}.pem"
        (bundle / "config.json").write_text(json.dumps(config))
    assert pi.run(bundle) is None


def test_certificate_in_place_of_the_key(lab: Laboratory, device: Device) -> None:
    bundle = lab.bundle(device, 8883)
    shutil.copyfile(bundle / "device0.crt", bundle / "device.key")
    report = device.fails(bundle, "WrongEncoding")
    assert str(bundle / "device.key") in report.what


def test_encrypted_key_on_a_board(lab: Laboratory) -> None:
    board = Device("micropython")
    bundle = lab.bundle(board, 8883)
    (bundle / "device.key").write_bytes(
        lab.now.issue_device(lab.new_id()).key_pem(b"correct horse")
    )
    report = board.fails(bundle, "WrongEncoding")
    assert "cannot decrypt" in report.cause


@pytest.mark.parametrize("options", [{}, {"key_password": "battery staple"}], ids=["none", "wrong"])
def test_key_password(lab: Laboratory, options: dict[str, Any]) -> None:
    pi = Device("cpython")
    bundle = lab.bundle(pi, 8883)
    (bundle / "device.key").write_bytes(
        lab.now.issue_device(lab.new_id()).key_pem(b"correct horse")
    )
    report = pi.fails(bundle, "WrongKeyPassword", options=options)
    assert "staple" not in report.text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644], ids="{:o}".format)
def test_key_that_others_may_read(lab: Laboratory, mosquitto_port: int, mode: int) -> None:
    pi = Device("cpython")
    bundle = lab.bundle(pi, mosquitto_port)
    (bundle / "device.key").chmod(mode)
    remedy = pi.fails(bundle, "FileNotPrivate").remedy
    assert remedy.startswith(f"chmod 600 {bundle / 'device.key'}")
    subprocess.run(remedy.partition(", as")[0].split(), check=True, timeout=RUN_S)
    assert pi.run(bundle) is None


MARK = b"\xef\xbb\xbf"


def test_a_mark_and_comments_do_no_harm(
    lab: Laboratory, device: Device, mosquitto_port: int
) -> None:
    bundle = lab.bundle(device, mosquitto_port)
    comments = (MARK + "# für das Gewächshaus\r\n".encode(), "# f\xfcr alle\n".encode("latin-1"))
    for comment in comments:
        for name in ("config.json",) if device.is_board else ("ca0.crt", "device0.crt"):
            path = bundle / name
            content = path.read_bytes()
            path.write_bytes((MARK if device.is_board else comment) + content.removeprefix(MARK))
    config = json.loads((bundle / "config.json").read_text("utf-8-sig"))
    password = bundle / "password"
    password.touch(0o600)
    password.write_bytes(MARK + b"secret\r\n")
    config.update(username="somebody", password_file="password")
    (bundle / "config.json").write_bytes(MARK + json.dumps(config).encode())
    assert device.run(bundle) is None


def test_a_ca_file_whose_second_certificate_is_cut_off(lab: Laboratory) -> None:
    pi = Device("cpython")
    bundle = lab.bundle(pi, 8883)
    path = bundle / "ca0.crt"
    path.write_bytes(path.read_bytes() + path.read_bytes()[:300])
    report = pi.fails(bundle, "FileTruncated")
    assert f"{path} is cut off" in report.what


def test_a_mark_before_the_key_is_named_and_the_remedy_takes_it_off(
    lab: Laboratory, mosquitto_port: int
) -> None:
    pi = Device("cpython")
    bundle = lab.bundle(pi, mosquitto_port)
    key = bundle / "device.key"
    key.write_bytes(MARK + key.read_bytes())
    report = pi.fails(bundle, "WrongEncoding")
    assert f"{key} begins with a byte order mark" in report.what
    subprocess.run(shlex.split(report.remedy.partition(", or ")[0]), check=True, timeout=RUN_S)
    assert pi.run(bundle) is None


@pytest.mark.parametrize("name", ["", "config.json", "ca0.crt", "device0.crt"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_may_change(lab: Laboratory, mosquitto_port: int, name: str, mode: int) -> None:
    pi = Device("cpython")
    bundle = lab.bundle(pi, mosquitto_port)
    path = bundle / name
    path.chmod(path.stat().st_mode | mode)
    report = pi.fails(bundle, "FileNotPrivate")
    assert f"{str(path).rstrip('/')} can be changed by others" in report.what
    command = report.remedy.partition(",")[0]
    assert command == f"chmod go-w {path}"
    subprocess.run(shlex.split(command), check=True, timeout=RUN_S)
    assert pi.run(bundle) is None


def test_a_credential_of_systemds_is_private(lab: Laboratory, mosquitto_port: int) -> None:
    """Its group's bits are the mask of an access control list with one user in it."""
    pi = Device("cpython")
    bundle = lab.bundle(pi, mosquitto_port)
    credentials = bundle.with_name(bundle.name + "-credentials")
    credentials.mkdir(mode=0o700)
    key = (bundle / "device.key").rename(credentials / "device.key")
    (bundle / "device.key").symlink_to(key)
    key.chmod(0o440)
    pi.fails(bundle, "FileNotPrivate")
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert pi.run(bundle, environment=environment) is None
    for mode in (0o444, 0o460):
        key.chmod(mode)
        pi.fails(bundle, "FileNotPrivate", environment=environment)
