"""The inventory: what became of each certificate, and that neither a crowd, a kill nor a full disk
loses any of it.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority, Entry
from securemqtt_tools.pki.deliver import deliver
from securemqtt_tools.pki.health import warnings
from securemqtt_tools.pki.inventory import Inventory
from support.speed import seconds

WORKER = str(Path(__file__).parent.parent / "support" / "identities" / "ca_worker.py")
MADE = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def own(tmp_path: Path) -> Authority:
    """Make an authority for one test."""
    return Authority.create(tmp_path / "ca", passphrase=None)


def work(mode: str, directory: Path, *arguments: object) -> list[list[str]]:
    """Run the worker to its end; return the lines it handed out, split at the first space."""
    command = [sys.executable, WORKER, mode, str(directory), *map(str, arguments)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds(100), check=True
    )
    return [line.split(" ", 1) for line in result.stdout.splitlines()]


def at(authority: Authority, moment: datetime) -> Authority:
    """Open the same authority at another time."""
    return Authority.open(authority.directory, clock=lambda: moment)


def states(authority: Authority, subject: str) -> list[str]:
    """Return the states of a subject's certificates, oldest first."""
    return [entry.state_at(authority.now) for entry in authority.find(subject)]


def crl_of(pem: bytes) -> tuple[int, dict[str, str]]:
    """Return a CRL's number, and the reasons by serial."""
    crl = x509.load_pem_x509_crl(pem)
    reasons = {}
    for line in crl:
        extensions = list(line.extensions)
        reasons[f"{line.serial_number:X}"] = (
            extensions[0].value.reason.value if extensions else "unspecified"
        )  # type: ignore[attr-defined]
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number, reasons


def check_sound(authority: Authority, handed_out: list[str]) -> list[Entry]:
    """Check that all that is outside is in the inventory, whole and once; return the inventory's
    devices.
    """
    with sqlite3.connect(authority.inventory.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    devices = authority.inventory.entries("device")
    recorded = {entry.serial: entry for entry in devices}
    assert set(handed_out) <= set(recorded)
    for path in authority.directory.glob("issued/*/device.crt"):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        assert f"{certificate.serial_number:X}" in {serial.lstrip("0") for serial in recorded}
        if path.with_suffix(".key").exists():
            key = load_pem_private_key(path.with_suffix(".key").read_bytes(), None)
            assert key.public_key() == certificate.public_key()
    return devices


def test_a_life_from_issue_to_expiry(tmp_path: Path) -> None:
    early = Authority.create(tmp_path / "ca", passphrase=None, clock=lambda: MADE)
    first = early.issue_device("one", days=30)
    assert states(early, "one") == ["issued"]
    with pytest.raises(
        FatalError,
        match=rf"device one has a certificate until 2026-01-31 \(serial {first.serial}\)",
    ):
        early.issue_device("one")
    early.issue_device("one", days=60, renew=True)
    assert states(early, "one") == ["superseded", "issued"]
    later = at(early, MADE + timedelta(days=40))
    assert states(later, "one") == ["expired", "issued"]
    at(early, MADE + timedelta(days=70)).issue_device("one")  # what has expired is in nobody's way
    assert states(at(early, MADE + timedelta(days=71)), "one") == ["expired", "expired", "issued"]


def test_renewing_keeps_names_and_can_revoke_all_that_was_before(own: Authority) -> None:
    own.issue_server(["a.local", "10.0.0.1"])
    own.renew("a.local")
    renewed = own.renew("a.local", revoke_old=True)
    assert renewed.names == ("a.local", "10.0.0.1")
    assert states(own, "a.local") == ["revoked", "revoked", "issued"]
    assert set(crl_of(own.crl_pem())[1].values()) == {"superseded"}
    with pytest.raises(FatalError, match=r"nothing was ever issued to b.local"):
        own.renew("b.local")


def test_revoking_an_id_takes_in_what_was_superseded(own: Authority) -> None:
    serials = {own.issue_device("gone", renew=True).serial.lstrip("0") for _ in range(3)}
    other = own.issue_device("other")
    assert {
        entry.serial.lstrip("0") for entry in own.revoke("gone", reason="keyCompromise")
    } == serials
    assert crl_of(own.crl_pem())[1] == dict.fromkeys(serials, "keyCompromise")
    own.revoke(other.serial[:10].lower())
    assert states(own, "other") == ["revoked"]
    with pytest.raises(FatalError, match="there is nothing to revoke"):
        own.revoke("gone")
    with pytest.raises(FatalError, match="'theft' is no reason"):
        own.revoke("other", reason="theft")


def test_a_name_of_two_roles_must_be_told_apart(own: Authority) -> None:
    own.issue_device("twin")
    own.issue_server(["twin"])
    with pytest.raises(FatalError, match="say which with --role"):
        own.revoke("twin")
    assert [entry.role for entry in own.revoke("twin", role="server")] == ["server"]


def test_crl_numbers_rise_and_no_crl_lists_less_than_one_before(tmp_path: Path) -> None:
    early = Authority.create(tmp_path / "ca", passphrase=None, clock=lambda: MADE)
    early.issue_device("short", days=10)
    early.revoke("short")
    found = [crl_of(at(early, MADE + timedelta(days=day)).crl_pem()) for day in (1, 11, 12)]
    assert [number for number, _ in found] == [20260102000000, 20260112000000, 20260113000000]
    assert [len(lines) for _, lines in found] == [1, 1, 1]


def test_the_crl_file_never_goes_back(own: Authority, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="no CRL yet"):
        own.write_crl(tmp_path / "crl.pem")
    own.crl_pem()
    newest = own.crl_pem()
    assert own.write_crl(tmp_path / "crl.pem").number == crl_of(newest)[0]
    assert (tmp_path / "crl.pem").read_bytes() == newest


def test_what_needs_attention_is_said_in_time(tmp_path: Path) -> None:
    early = Authority.create(tmp_path / "ca", passphrase=None, clock=lambda: MADE)
    assert warnings(early) == []
    early.issue_device("one")
    early.revoke("one")
    assert "revoked but in no CRL yet, so brokers still take them: 1" in warnings(early)[0]
    early.crl_pem(days=30)
    found = {day: warnings(at(early, MADE + timedelta(days=day))) for day in (1, 21, 31)}
    assert found[1] == []
    assert "the CRL runs out on 2026-01-31" in found[21][0]
    assert "the CRL ran out on 2026-01-31" in found[31][0]
    early.crl_pem()
    assert (
        "certificate ends on 2045-12-27"
        in warnings(at(early, MADE + timedelta(days=19.5 * 365)))[-1]
    )


def test_a_clock_that_is_plainly_wrong_is_not_believed(own: Authority, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"clock shows 1970-01-01 .* set the clock"):
        Authority.create(
            tmp_path / "other",
            passphrase=None,
            clock=lambda: datetime(1970, 1, 1, tzinfo=timezone.utc),
        )
    assert not (tmp_path / "other").exists()
    before = at(own, own.now - timedelta(days=2))
    for act in (lambda: before.issue_device("x"), before.crl_pem):
        with pytest.raises(FatalError, match=r"when this authority was made: set the clock"):
            act()
    with pytest.raises(FatalError, match=r"authority's certificate ended on"):
        at(own, own.now + timedelta(days=21 * 365)).issue_device("x")


def test_a_locked_inventory_is_waited_for_but_not_for_ever(own: Authority) -> None:
    holder = sqlite3.connect(own.inventory.path, isolation_level=None)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        impatient = Inventory(own.inventory.path, lock_timeout_s=0.1)
        with pytest.raises(FatalError, match=r"was locked by another process for 0.1 s"):
            impatient.entries()
    finally:
        holder.close()
    assert impatient.entries("device") == []


def test_files_are_written_under_the_inventorys_lock(own: Authority, tmp_path: Path) -> None:
    own.crl_pem()
    impatient = Authority.open(own.directory)
    impatient.inventory = Inventory(own.inventory.path, lock_timeout_s=0.1)
    with own.handing_out(own.issue_device("one")):
        for act in (
            lambda: impatient.renew("one"),
            lambda: impatient.write_crl(tmp_path / "crl.pem"),
        ):
            with pytest.raises(FatalError, match="was locked by another process"):
                act()
    assert states(own, "one") == ["issued"]


def test_what_was_renewed_meanwhile_is_not_handed_out(own: Authority, tmp_path: Path) -> None:
    slow = own.issue_device("one")
    own.renew("one")
    with pytest.raises(FatalError, match="another process has renewed or revoked one meanwhile"):
        deliver(own, slow, tmp_path / "out")
    assert list((tmp_path / "out").glob("*")) == []


def test_a_transaction_that_fails_changes_nothing(own: Authority) -> None:
    own.issue_device("one")
    with pytest.raises(ZeroDivisionError), own.inventory.transaction() as connection:
        connection.execute("DELETE FROM certificate")
        raise ZeroDivisionError
    assert states(own, "one") == ["issued"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"not a database at all" * 100), "damaged or no inventory"),
        (lambda path: path.unlink(), "is missing: restore it"),
        (
            lambda path: sqlite3.connect(path).executescript("PRAGMA user_version = 9").close(),
            "of version 9",
        ),
    ],
    ids=["garbage", "missing", "newer"],
)
def test_a_damaged_inventory_is_named(
    own: Authority, damage: Callable[[Path], object], message: str
) -> None:
    damage(own.inventory.path)
    with pytest.raises(FatalError, match=message):
        Authority.open(own.directory)


def test_a_crowd_of_processes_loses_nothing(own: Authority) -> None:
    command = [sys.executable, WORKER, "crowd", str(own.directory)]
    crowd = [
        subprocess.Popen([*command, name, "6"], stdout=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    try:
        lines = [
            line.split(" ", 1)
            for one in crowd
            for line in one.communicate(timeout=seconds(100))[0].splitlines()
        ]
    finally:
        for one in crowd:
            one.kill()
            one.wait()
    assert [one.returncode for one in crowd] == [0, 0, 0, 0]
    given = {
        kind: [value for found, value in lines if found == kind]
        for kind in ("device", "crl", "error")
    }
    assert len(given["device"]) == 4 * 6 + 1  # and one of the four got the contested id
    assert len(given["error"]) == 3
    assert len(set(given["crl"])) == len(given["crl"]) == 4 * 6
    devices = check_sound(own, given["device"])
    assert len(devices) == len(given["device"])
    number, revoked = crl_of((own.directory / "crl.pem").read_bytes())
    assert (number, len(revoked)) == (max(map(int, given["crl"])), 24)


def test_a_kill_at_any_moment_loses_nothing(own: Authority) -> None:
    lines = work("die", own.directory, 40, 20261121)
    given = {
        kind: [value for found, value in lines if found == kind]
        for kind in ("device", "crl", "error")
    }
    assert given["error"] == []
    assert given["device"]  # the kills do not all come before the first step
    check_sound(own, given["device"])
    numbers = list(map(int, given["crl"]))
    assert numbers == sorted(set(numbers))
    number, revoked = crl_of((own.directory / "crl.pem").read_bytes())
    assert number >= max(numbers)
    assert len(revoked) == len(
        [entry for entry in own.inventory.entries() if entry.in_crl and entry.in_crl <= number]
    )
    assert crl_of(own.crl_pem())[0] > number


def test_a_kill_while_it_is_made_leaves_a_whole_authority_or_none(tmp_path: Path) -> None:
    lines = work("born", tmp_path, 10, 20261121)
    assert [kind for kind, _ in lines].count("device") == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"ca-{number}" for number in range(10)
    ]


@pytest.mark.parametrize("is_device_first", [True, False])
def test_of_a_device_and_a_group_that_get_one_name_at_once_one_wins(
    tmp_path: Path, is_device_first: bool
) -> None:
    """Whoever asks for the passphrase has looked at the names before."""
    Authority.create(tmp_path / "ca", passphrase=b"not so secret")

    def passphrase() -> bytes:
        other = Authority.open(tmp_path / "ca", b"not so secret")
        (other.issue_device if is_device_first else other.issue_shared)("lamps")
        return b"not so secret"

    slower = Authority.open(tmp_path / "ca", passphrase)
    with pytest.raises(FatalError, match=r"lamps is the (id of a device|name of a certificate)"):
        (slower.issue_shared if is_device_first else slower.issue_device)("lamps")
    assert [one.role for one in slower.find("lamps")] == ["device" if is_device_first else "shared"]


def test_of_two_that_renew_at_once_the_files_are_of_the_later(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    authority.issue_device("rival")
    command = [sys.executable, WORKER, "renew", str(tmp_path), "15"]
    rivals = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(3)
    ]
    try:
        assert [one.wait(seconds(100)) for one in rivals] == [0, 0, 0]
    finally:
        for one in rivals:
            one.kill()
            one.wait()
    entries = authority.find("rival")
    assert [entry.state for entry in entries] == ["superseded"] * 45 + ["issued"]
    files = tmp_path / "ca" / "issued" / "devices" / "rival"
    assert (
        x509.load_pem_x509_certificate((files / "device.crt").read_bytes())
        == entries[-1].certificate
    )
    key = load_pem_private_key((files / "device.key").read_bytes(), None)
    assert key.public_key() == entries[-1].certificate.public_key()


def test_a_file_that_cannot_grow_loses_nothing(own: Authority) -> None:
    lines = work("starve", own.directory)
    errors = [value for kind, value in lines if kind == "error"]
    assert len(errors) >= 3
    assert all("free some space" in error for error in errors)
    assert lines[-1][0] == "device"
    check_sound(own, [value for kind, value in lines if kind == "device"])
    assert list(own.directory.rglob("*.part")) == []


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=300k none "$0" || exit 77; exec "$@"'
    command = [*mount, script, str(tmp_path), sys.executable, WORKER, "fill", str(tmp_path)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds(100), check=False
    )
    if result.returncode == 77 or "unshare failed" in result.stderr:
        pytest.skip("this kernel lets nobody mount a tmpfs of their own: " + result.stderr.strip())
    assert result.returncode == 0, result.stderr
    lines = [line.split(" ", 1) for line in result.stdout.splitlines()]
    given = {
        kind: [value for found, value in lines if found == kind]
        for kind in ("device", "recorded", "error")
    }
    assert len(given["error"]) == 1
    assert "free some space" in given["error"][0]
    # the first after space was freed
    assert lines[lines.index(["error", given["error"][0]]) + 1][0] == "device"
    assert set(given["device"]) <= set(given["recorded"])
