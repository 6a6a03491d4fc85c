"""`ca replace-intermediate` that stops half way, and a backup from before it: the stolen
intermediate does not come back.
"""

from __future__ import annotations

import io
import shutil
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.layout import replace_intermediate
from support.brokers.home import Home
from support.identities.credentials import Credentials, issued_credentials
from support.requirements import require_program

PASSPHRASE = "four random words here"


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path / "home", capsys, intermediate=True)


def test_the_passphrase_is_asked_for_once(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.rmtree(home.ca)
    Authority.create(home.ca, passphrase=PASSPHRASE.encode(), intermediate=True)
    secret = tmp_path / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE)
    home.good("broker", "init", "localhost", "--force", "--passphrase-file", secret)
    given = io.TextIOWrapper(io.BytesIO(f"{PASSPHRASE}\n".encode()))
    monkeypatch.setattr(sys, "stdin", given)
    home.good("ca", "replace-intermediate", "--passphrase-file", "-")
    assert home.read_crl().issuer == home.intermediate().subject
    Authority.open(home.ca, PASSPHRASE.encode()).unlock()


def test_a_reload_signs_the_crl_that_was_left_out(home: Home) -> None:
    """It was killed once the new intermediate was in its place."""
    require_program("mosquitto")
    thief = home.credentials("thief")
    replace_intermediate(home.ca, None, None, datetime.now(timezone.utc).replace(microsecond=0))
    assert "of an intermediate that was replaced" in home.warned("ca", "list")
    assert "another one is signed" in home.warned("broker", "reload")
    assert home.read_crl().issuer == home.intermediate().subject
    home.good("ca", "list")
    pump = home.credentials("pump")
    with home.running():
        assert not home.lets_in("thief", thief)
        assert home.lets_in("pump", pump)


def test_where_the_roots_key_is_offline_the_remedy_says_how_to_name_it(
    home: Home, tmp_path: Path
) -> None:
    key = (home.ca / "root.key").rename(tmp_path / "drawer.key")
    for command in (("ca", "replace-intermediate"), ("ca", "renew-intermediate")):
        assert "say with --root-key FILE where it is kept offline" in home.bad(*command)
        home.good(*command, "--root-key", key)


def keep_old_files(home: Home, *names: str) -> None:
    """Replace the intermediate, and have these files be the old ones."""
    before = {name: (home.ca / name).read_bytes() for name in names}
    replace_intermediate(home.ca, None, None, datetime.now(timezone.utc).replace(microsecond=0))
    for name, content in before.items():
        (home.ca / name).write_bytes(content)


@pytest.mark.parametrize(
    "names",
    [("intermediate.crt", "intermediate.key", "root-crl.pem"), ("intermediate.crt",)],
    ids=["all", "its certificate"],
)
def test_a_revoked_intermediate_signs_nothing(home: Home, names: tuple[str, ...]) -> None:
    """It was killed before the new intermediate was in its place."""
    keep_old_files(home, *names)
    assert "replace-intermediate was interrupted" in home.warned("ca", "list")
    for arguments in (
        ("ca", "device", "pump"),
        ("ca", "crl"),
        ("ca", "renew-intermediate"),
        ("broker", "reload"),
    ):
        assert "run securemqtt ca replace-intermediate" in home.bad(*arguments)
    home.good("ca", "replace-intermediate")
    home.good("ca", "device", "pump")
    home.good("broker", "reload")
    assert home.read_crl().issuer == home.intermediate().subject


def restore_older(home: Home, work: Path) -> Credentials:
    """Replace the intermediate after a device was stolen, then restore the backup of before; return
    what the thief has.
    """
    thief = home.credentials("thief")
    shutil.copytree(home.ca, work / "backup")
    home.good("ca", "replace-intermediate")
    home.good("broker", "reload")
    shutil.rmtree(home.ca)
    shutil.copytree(work / "backup", home.ca)
    return thief


def only_the_servers_own(home: Home) -> None:
    """Leave out of server.pem who has issued it, as a public certificate does."""
    path = home.broker / "server.pem"
    own = x509.load_pem_x509_certificates(path.read_bytes())[0]
    content = path.read_text()
    end = content.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----\n")
    path.write_text(content[:end])
    assert x509.load_pem_x509_certificates(path.read_bytes()) == [own]


@pytest.mark.parametrize("chain", [True, False], ids=["server.pem", "root-crl.pem"])
def test_a_backup_does_not_bring_the_stolen_one_back(
    home: Home, tmp_path: Path, chain: bool
) -> None:
    require_program("mosquitto")
    thief = restore_older(home, tmp_path)
    if not chain:
        only_the_servers_own(home)
    witness = home.broker / ("server.pem" if chain else "root-crl.pem")
    before = (home.broker / "crl.pem").read_bytes()
    status, _, err = home.run("ca", "list")
    assert status == 0
    assert f"{witness} shows that another intermediate has taken" in err
    for arguments in (
        ("ca", "recover"),
        ("ca", "device", "pump"),
        ("ca", "crl"),
        ("ca", "revoke", "thief"),
        ("broker", "reload"),
        ("broker", "init", "localhost", "--force"),
    ):
        assert "Restore a newer one, or run securemqtt ca replace" in home.bad(*arguments)
    assert (home.broker / "crl.pem").read_bytes() == before
    home.good("ca", "replace-intermediate")
    home.good("broker", "reload")
    pump = home.credentials("pump")
    with home.running():
        assert not home.lets_in("thief", thief)
        assert home.lets_in("pump", pump)


def test_a_device_of_the_newer_intermediate_shows_that_the_authority_is_old(
    home: Home, tmp_path: Path
) -> None:
    """The whole home comes from the backup, and nothing in it is newer."""
    shutil.copytree(home.directory, tmp_path / "backup")
    home.good("ca", "replace-intermediate")
    bundle = tmp_path / "bundle"
    home.good("ca", "device", "pump", "--out", bundle)
    board = tmp_path / "board"
    home.good("ca", "device", "valve", "--der", "--out", board)
    shutil.rmtree(home.directory)
    shutil.copytree(tmp_path / "backup", home.directory)
    home.good("ca", "list")
    for place in (bundle, board):
        assert "shows that another intermediate has taken" in home.bad("ca", "recover", place)
    home.good("ca", "replace-intermediate")


def test_what_a_backup_lacks_of_other_keys_is_no_successor(home: Home, tmp_path: Path) -> None:
    """A broker's issuing key is below the root as well, and a renewed intermediate has its key."""
    shutil.copytree(home.ca, tmp_path / "backup")
    secret = tmp_path / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE)
    home.good("broker", "issuer", "--issuer-passphrase-file", secret)
    home.good("broker", "renew", "--now", "--issuer-passphrase-file", secret)
    shutil.rmtree(home.ca)
    shutil.copytree(tmp_path / "backup", home.ca)
    home.good("ca", "renew-intermediate")
    renewed = home.intermediate()
    shutil.rmtree(home.ca)
    shutil.copytree(tmp_path / "backup", home.ca)
    with (home.broker / "server.pem").open("ab") as file:
        file.write((tmp_path / "backup" / "root.crt").read_bytes())
    assert renewed.public_key() == home.intermediate().public_key()
    home.good("ca", "device", "pump")
    home.good("broker", "reload")


def test_a_crl_of_a_clock_that_was_ahead_is_not_handed_out(home: Home) -> None:
    require_program("mosquitto")
    ahead = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=400)
    short = Authority.open(home.ca).issue_device("lost", days=100)
    lost = issued_credentials(home.directory.parent / "devices", short)
    pump = home.credentials("pump")
    wrong = Authority.open(home.ca, clock=lambda: ahead)
    wrong.inventory.revoke([short.serial], "unspecified", ahead)
    number = wrong.crl_pem() and wrong.write_crl(home.broker / "crl.pem").number
    for _ in range(2):
        assert "signed by a clock that was ahead" in home.warned("ca", "list")
    assert "another one is signed" in home.warned("broker", "reload")
    assert home.read_crl().last_update_utc < datetime.now(timezone.utc)
    later = home.read_crl().extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert later > number
    assert [one.serial_number for one in home.read_crl()] == [int(short.serial, 16)]
    home.good("ca", "list")
    home.good("broker", "reload")
    with home.running():
        assert home.lets_in("pump", pump)
        assert not home.lets_in("lost", lost)
