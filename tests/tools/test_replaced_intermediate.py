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

from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.layout import replace_intermediate
from support.brokers.command import broker_run
from support.brokers.mqtt import Peer, Refused, client_context
from support.identities.credentials import Credentials, issued_credentials
from support.requirements import require_program

PASSPHRASE = "four random words here"


class Home:
    """A home whose authority has an intermediate, and a broker."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.port = free_port("127.0.0.1")
        self._capture = capture
        Authority.create(self.ca, passphrase=None, intermediate=True)
        self.good("broker", "init", "localhost", "--port", str(self.port))

    @property
    def ca(self) -> Path:
        return self.directory / "ca"

    @property
    def broker(self) -> Path:
        return self.directory / "broker"

    @property
    def crl(self) -> x509.CertificateRevocationList:
        """The broker's CRL."""
        return x509.load_pem_x509_crl((self.broker / "crl.pem").read_bytes())

    def intermediate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.ca / "intermediate.crt").read_bytes())

    def credentials(self, device_id: str) -> Credentials:
        """Issue a certificate, and write it where a device has it."""
        issued = Authority.open(self.ca).issue_device(device_id)
        return issued_credentials(self.directory.parent / "devices", issued)

    def run(self, command: str, *arguments: str | Path) -> tuple[int, str, str]:
        """Run a command; return its exit status, what it printed, and what it complained about."""
        status = main([*map(str, arguments), "--home", str(self.directory)], command=command)
        printed = self._capture.readouterr()
        return status, printed.out, printed.err

    def good(self, command: str, *arguments: str | Path) -> str:
        """Run a command, which must succeed without a warning; return what it printed."""
        status, out, err = self.run(command, *arguments)
        assert (status, err) == (0, "")
        return out

    def bad(self, command: str, *arguments: str | Path) -> str:
        """Run a command, which must fail with one line on stderr; return that line."""
        status, _, err = self.run(command, *arguments)
        assert (status, err.count("\n")) == (1, 1), err
        return err

    def warned(self, command: str, *arguments: str | Path) -> str:
        """Run a command, which must succeed with one warning; return that."""
        status, _, err = self.run(command, *arguments)
        assert (status, err.count("\n")) == (0, 1), err
        return err

    def lets_in(self, device_id: str, credentials: Credentials) -> bool:
        """Say whether the running broker takes a device."""
        try:
            with Peer(self.port, client_context(self.broker / "ca.pem", credentials)) as peer:
                peer.connect(device_id)
        except Refused:
            return False
        return True


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path / "home", capsys)


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
    assert home.crl.issuer == home.intermediate().subject
    Authority.open(home.ca, PASSPHRASE.encode()).unlock()


def test_a_reload_signs_the_crl_that_was_left_out(home: Home) -> None:
    """It was killed once the new intermediate was in its place."""
    require_program("mosquitto")
    thief = home.credentials("thief")
    replace_intermediate(home.ca, None, None, datetime.now(timezone.utc).replace(microsecond=0))
    assert "of an intermediate that was replaced" in home.warned("ca", "list")
    assert "another one is signed" in home.warned("broker", "reload")
    assert home.crl.issuer == home.intermediate().subject
    home.good("ca", "list")
    pump = home.credentials("pump")
    with broker_run(home.directory, "--engine", "mosquitto"):
        assert not home.lets_in("thief", thief)
        assert home.lets_in("pump", pump)


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
    assert home.crl.issuer == home.intermediate().subject


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
    with broker_run(home.directory, "--engine", "mosquitto"):
        assert not home.lets_in("thief", thief)
        assert home.lets_in("pump", pump)


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
    assert home.crl.last_update_utc < datetime.now(timezone.utc)
    later = home.crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert later > number
    assert [one.serial_number for one in home.crl] == [int(short.serial, 16)]
    home.good("ca", "list")
    home.good("broker", "reload")
    with broker_run(home.directory, "--engine", "mosquitto"):
        assert home.lets_in("pump", pump)
        assert not home.lets_in("lost", lost)
