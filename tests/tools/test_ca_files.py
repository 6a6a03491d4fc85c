"""Files of the authority: owner-only, whole or absent, and refused when others could have read
them.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.deliver import deliver, prepare
from securemqtt_tools.pki.files import make_directory, read_private, write_file, write_files
from securemqtt_tools.pki.layout import renew_intermediate
from support.requirements import require_program
from support.speed import seconds

PASSPHRASE = b"correct horse battery"


def modes(directory: Path) -> set[int]:
    """Return the permissions of all files under a directory."""
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if path.is_file()}


def test_everything_is_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        authority = Authority.create(
            tmp_path / "home" / "ca", passphrase=PASSPHRASE, intermediate=True
        )
        deliver(authority, authority.issue_device("one"), tmp_path / "out")
        authority.crl_pem()
        authority.write_crl(authority.directory / "crl.pem")
    finally:
        os.umask(before)
    assert modes(tmp_path) == {0o600}
    directories = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}


def test_the_keys_are_encrypted_and_openssl_can_read_them(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca", passphrase=PASSPHRASE, intermediate=True)
    for name in ("root.key", "intermediate.key"):
        content = (tmp_path / "ca" / name).read_bytes()
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in content
        load_pem_private_key(content, PASSPHRASE)
        command = [
            require_program("openssl"),
            "pkey",
            "-in",
            tmp_path / "ca" / name,
            "-noout",
            "-passin",
            "stdin",
        ]
        subprocess.run(
            command, input=PASSPHRASE, check=True, capture_output=True, timeout=seconds(30)
        )


def test_the_passphrase_is_asked_for_only_when_something_is_signed(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca", passphrase=PASSPHRASE)
    asked = []

    def answer() -> bytes:
        asked.append(1)
        return PASSPHRASE

    authority = Authority.open(tmp_path / "ca", answer)
    assert (authority.inventory.entries("device"), asked) == ([], [])
    with pytest.raises(FatalError, match="is no device id"):
        authority.issue_device("a/b")
    assert asked == []
    authority.issue_device("one")
    authority.issue_device("two")
    assert asked == [1]


@pytest.mark.parametrize(
    ("passphrase", "message"),
    [(b"wrong", "wrong passphrase for"), (None, "give its passphrase"), (b"", "give its")],
)
def test_without_the_right_passphrase_nothing_is_issued(
    tmp_path: Path, passphrase: bytes | None, message: str
) -> None:
    Authority.create(tmp_path / "ca", passphrase=PASSPHRASE)
    authority = Authority.open(tmp_path / "ca", passphrase)
    with pytest.raises(FatalError, match=message):
        authority.issue_device("one")
    assert authority.inventory.entries("device") == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_key_that_others_could_reach_is_refused(tmp_path: Path, mode: int) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    key = tmp_path / "ca" / "root.key"
    key.chmod(mode)
    with pytest.raises(FatalError, match=rf"mode {mode:o}\): run chmod 600 {key}"):
        authority.issue_device("one")


def test_a_wrong_or_damaged_key_is_named(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    other = Authority.create(tmp_path / "other", passphrase=None)
    key = tmp_path / "ca" / "root.key"
    write_file(key, (other.directory / "root.key").read_bytes())
    with pytest.raises(FatalError, match="is not the key of CN="):
        authority.issue_device("one")
    write_file(key, (other.directory / "root.key").read_bytes().partition(b"\n")[0])  # cut off
    with pytest.raises(FatalError, match="holds no private key in PEM, or is damaged"):
        authority.issue_device("one")
    key.unlink()
    with pytest.raises(FatalError, match="is not here: put it back"):
        authority.issue_device("one")


def test_daily_work_needs_the_intermediates_key_only(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca", passphrase=PASSPHRASE, intermediate=True)
    (tmp_path / "ca" / "root.key").rename(tmp_path / "offline.key")
    authority = Authority.open(tmp_path / "ca", PASSPHRASE)
    authority.issue_server(["a.local"])
    authority.issue_device("one")
    authority.renew("one", revoke_old=True)
    authority.crl_pem()
    with pytest.raises(FatalError, match=r"root.key is not here: say with --root-key"):
        renew_intermediate(tmp_path / "ca", None, PASSPHRASE, authority.now)
    renewed = renew_intermediate(
        tmp_path / "ca", tmp_path / "offline.key", PASSPHRASE, authority.now
    )
    again = Authority.open(tmp_path / "ca", PASSPHRASE)
    assert again.intermediate == renewed != authority.intermediate
    assert again.issue_device("two").chain[1] == renewed
    assert [entry.state for entry in again.inventory.entries("intermediate")] == [
        "superseded",
        "issued",
    ]


def test_a_root_that_signs_itself_has_no_intermediate_to_renew(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    with pytest.raises(FatalError, match="has no intermediate"):
        renew_intermediate(tmp_path / "ca", None, None, authority.now)


def test_an_authority_is_not_overwritten(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    with pytest.raises(FatalError, match="already; it was left as it is"):
        Authority.create(tmp_path / "ca", passphrase=None)
    assert Authority.open(tmp_path / "ca").root == authority.root
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(FatalError, match="in use for something else"):
        Authority.create(tmp_path / "photos", passphrase=None)
    with pytest.raises(FatalError, match="make one with securemqtt ca init"):
        Authority.open(tmp_path / "photos")


def test_of_several_that_make_it_at_once_one_wins(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from securemqtt_tools.pki import Authority; from "
        "securemqtt_tools.cli import FatalError"
    )
    program += (
        "\ntry: Authority.create(pathlib.Path(sys.argv[1]), passphrase=None)\nexcept "
        "FatalError as e: sys.exit(3)"
    )
    crowd = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "ca")]) for _ in range(4)
    ]
    try:
        assert sorted(one.wait(seconds(60)) for one in crowd) == [0, 3, 3, 3]
    finally:
        for one in crowd:
            one.kill()
            one.wait()
    Authority.open(tmp_path / "ca").issue_device("one")
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def test_what_a_killed_init_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".ca.unfinished").mkdir()
    (tmp_path / ".ca.unfinished" / "root.key").write_text("half")
    Authority.create(tmp_path / "ca", passphrase=None)
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def test_a_failed_write_leaves_the_old_files(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": b"old", "b": b"old"})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "occupied").touch()
    with pytest.raises(FatalError, match="cannot write to"):
        write_files(tmp_path, {"x" * 300: b"new", "a": b"new"})
    with pytest.raises(FatalError, match="cannot write to"):
        write_files(tmp_path, {"c": b"new", "a": b"new"})
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"old", b"old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_what_root_writes_into_a_users_directory_is_the_users(tmp_path: Path) -> None:
    """After `sudo securemqtt ca …` the user can still read what was written."""
    if os.geteuid() != 0:
        pytest.skip("only root can write as another user's guest")
    os.chown(tmp_path, 65534, 65534)
    write_file(tmp_path / "crl.pem", b"new")
    assert (tmp_path / "crl.pem").stat().st_uid == 65534


def test_leftovers_of_a_kill_are_removed_once_they_are_old(tmp_path: Path) -> None:
    abandoned, fresh = tmp_path / ".device.key.abc.part", tmp_path / ".device.key.def.part"
    for path in (abandoned, fresh):
        path.write_bytes(b"half a key")
    os.utime(abandoned, (time.time() - 3600, time.time() - 3600))
    write_file(tmp_path / "device.key", b"new")
    assert (abandoned.exists(), fresh.exists()) == (False, True)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FatalError, match="cannot make the directory"):
        make_directory(tmp_path / "file" / "below")
    with pytest.raises(FatalError, match="cannot read"):
        read_private(tmp_path / "none")


def test_a_private_key_is_not_overwritten_unasked(tmp_path: Path) -> None:
    for name in ("device.key", "server.key.der"):
        write_file(tmp_path / name, b"precious")
        with pytest.raises(FatalError, match=f"{name} exists and was left as it is"):
            prepare(tmp_path, name.split(".")[0], replacing=False)
    prepare(tmp_path, "device", replacing=True)


def test_der_for_boards_is_one_certificate_per_file(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None, intermediate=True)
    issued = authority.issue_device("board")
    files = deliver(authority, issued, tmp_path / "out", der=True)
    assert [path.name for path in files] == [
        "device.der",
        "intermediate.der",
        "device.key.der",
        "ca.der",
    ]
    for path in files:
        kind = "pkey" if "key" in path.name else "x509"
        command = [require_program("openssl"), kind, "-inform", "DER", "-in", path, "-noout"]
        subprocess.run(command, check=True, capture_output=True, timeout=seconds(30))
