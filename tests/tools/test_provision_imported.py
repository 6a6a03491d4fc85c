"""The command `provision` with files that `openssl` has made: onto a Pi, onto a board, and what is
said of those that will not do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from securemqtt_tools.broker.config import PASSWORDS
from securemqtt_tools.broker.passwords import set_password
from securemqtt_tools.broker.trust import device_context
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority, Issued
from securemqtt_tools.provision.imported import Imported, read_imported
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import Outcome, Provisioner, read
from support.brokers.doors import Door, open_door
from support.brokers.mqtt import Peer
from support.brokers.servers import mosquitto
from support.identities.by_openssl import Workshop
from support.identities.credentials import Credentials, issued_credentials
from support.identities.programs import says

PASSWORD = b"correct horse battery"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("openssl"))


@pytest.fixture(scope="module")
def broker_port(workshop: Workshop) -> Iterator[int]:
    """Run a Mosquitto with the certificates that `openssl` made, and rules of its own."""
    certificate, key = workshop.server()
    rules = workshop.directory / "rules"
    rules.write_text("pattern readwrite home/%u/#\nuser watcher\ntopic read #\n")
    lines = (
        f"cafile {workshop.ca}",
        f"certfile {certificate}",
        f"keyfile {key}",
        "require_certificate true",
        "use_identity_as_username true",
        f"acl_file {rules}",
    )
    with mosquitto(workshop.directory / "broker", *lines) as port:
        yield port


@pytest.fixture(scope="module")
def watcher(workshop: Workshop, broker_port: int) -> Iterator[Peer]:
    """See all that passes that broker."""
    context = device_context(workshop.ca)
    context.load_cert_chain(*workshop.device("watcher"))
    with Peer(broker_port, context) as peer:
        peer.connect("watcher")
        peer.subscribe("#")
        yield peer


def provision(
    provisioner: Provisioner,
    workshop: Workshop,
    port: int,
    kind: str,
    files: tuple[Path, Path],
    *options: str,
) -> Outcome:
    """Run the command with a certificate and a key of the workshop's."""
    certificate, key = map(str, files)
    trust = ("--ca", str(workshop.ca), "--certificate", certificate, "--key", key)
    return provisioner.command(kind, "--broker", f"localhost:{port}", *trust, *options)


def test_files_of_openssls_become_a_bundle_of_a_pis(
    provisioner: Provisioner, workshop: Workshop, broker_port: int, watcher: Peer, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    files = workshop.device("greenhouse.1:a")
    where = ("--out", str(out), "--prefix", "home/greenhouse.1:a")
    outcome = provision(provisioner, workshop, broker_port, "pi", files, *where, "--dry-run")
    assert "would import the certificate" in outcome.out and not out.exists()
    outcome = provision(provisioner, workshop, broker_port, "pi", files, *where)
    assert (outcome.status, outcome.err) == (0, "")
    assert "greenhouse.1:a is ready" in outcome.out
    config = json.loads((out / "config.json").read_text())
    assert config["client_id"] == "greenhouse.1:a" and config["imported"] is True
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}
    assert says(out) == "True\n"
    assert ("home/greenhouse.1:a/hello", b"x") in watcher.drain()
    outcome = provision(provisioner, workshop, broker_port, "pi", files, *where)
    assert "there was nothing to change" in outcome.out
    # Another certificate for the same device takes its place.
    renewed = workshop.sign("renewed", files[1], subject="greenhouse.1:a"), files[1]
    outcome = provision(provisioner, workshop, broker_port, "pi", renewed, *where)
    assert "certificate imported" in outcome.out
    # And then one of ours, which takes no such id.
    assert provisioner.run("pi", "greenhouse.1:a", "--out", str(out)).said("is no device id")


def test_files_of_openssls_go_onto_a_board_as_der(
    provisioner: Provisioner,
    workshop: Workshop,
    broker_port: int,
    watcher: Peer,
    simulated_board: SimulatedBoard,
    tmp_path: Path,
) -> None:
    key = workshop.key("pump.2")
    encrypted = tmp_path / "encrypted.key"
    password = tmp_path / "password"
    for path in (encrypted, password):
        path.touch(0o600)
    password.write_bytes(PASSWORD + b"\n")
    workshop.run("pkcs8", "-topk8", "-in", key, "-out", encrypted, "-passout", f"file:{password}")
    files = workshop.sign("pump.2", key), encrypted
    options = ("--port", simulated_board.port, "--prefix", "home/pump.2", *provisioner.wifi)
    opened = ("--key-password-file", str(password))
    outcome = provision(provisioner, workshop, broker_port, "simulated", files, *options, *opened)
    assert (outcome.status, outcome.err) == (0, ""), outcome.text
    assert "imported for pump.2" in outcome.out and "message acknowledged" in outcome.out
    assert "home/pump.2/provisioned" in dict(watcher.drain())
    assert load_der_private_key(read(simulated_board, "/secure/device.key.der"), None)
    outcome = provision(provisioner, workshop, broker_port, "simulated", files, *options, *opened)
    assert "certificate: good" in outcome.out, outcome.text


def identity(workshop: Workshop, certificate: Path, key: Path, **changes: object) -> Imported:
    """Read an identity for a board."""
    options = {"device_id": None, "for_board": True, "password": None, **changes}
    anchors = options.pop("anchors", [workshop.ca])
    return read_imported(anchors, certificate, key, **options)  # type: ignore[arg-type]


def refused(workshop: Workshop, certificate: Path, key: Path, **changes: object) -> str:
    """Return what is said of files that will not do."""
    with pytest.raises(FatalError) as caught:
        identity(workshop, certificate, key, **changes)
    return str(caught.value)


def after(days: int) -> dict[str, object]:
    """Return the clock of so many days from now."""
    return {"clock": lambda: datetime.now(timezone.utc) + timedelta(days=days)}


def test_files_that_are_in_order_have_no_remarks(workshop: Workshop) -> None:
    files = workshop.device("in-order")
    assert identity(workshop, *files).remarks == ()
    for kind in (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),):
        assert identity(workshop, *workshop.device("rsa", *kind)).remarks == ()
    traditional = workshop.directory / "traditional.key"
    workshop.run("ecparam", "-name", "prime256v1", "-genkey", "-out", traditional)
    traditional.chmod(0o600)
    assert traditional.read_text().startswith("-----BEGIN EC PARAMETERS")
    made = workshop.sign("traditional", traditional), traditional
    assert identity(workshop, *made).device_id == "traditional"


def test_der_is_taken_too(workshop: Workshop) -> None:
    certificate, key = workshop.device("der")
    in_der = [path.with_suffix(path.suffix + ".der") for path in (certificate, key, workshop.ca)]
    workshop.run("x509", "-in", certificate, "-outform", "DER", "-out", in_der[0])
    workshop.run("pkey", "-in", key, "-outform", "DER", "-out", in_der[1])
    workshop.run("x509", "-in", workshop.ca, "-outform", "DER", "-out", in_der[2])
    in_der[1].chmod(0o600)
    made = identity(workshop, in_der[0], in_der[1], anchors=[in_der[2]])
    assert made.chain == identity(workshop, certificate, key).chain


def test_an_intermediate_stands_behind_what_it_issued(workshop: Workshop) -> None:
    intermediate = workshop.intermediate()
    key = workshop.key("chained")
    certificate = workshop.sign("chained", key, issuer=intermediate)
    chain = workshop.directory / "chain.pem"
    chain.write_bytes(
        certificate.read_bytes() + intermediate[0].read_bytes() + workshop.ca.read_bytes()
    )
    made = identity(workshop, chain, key)
    assert (len(made.chain), made.remarks) == (2, ())
    alone = identity(workshop, certificate, key)
    assert len(alone.remarks) == 1 and "CN=intermediate" in alone.remarks[0]
    chain.write_bytes(certificate.read_bytes() + workshop.device("unrelated")[0].read_bytes())
    assert "is broken" in refused(workshop, chain, key)
    chain.write_bytes(intermediate[0].read_bytes() + certificate.read_bytes())
    assert "begins with a CA's certificate" in refused(workshop, chain, key)


def test_what_would_fail_on_the_device_is_said_here(workshop: Workshop) -> None:
    certificate, key = workshop.device("good")
    _, other = workshop.device("other")
    assert refused(workshop, certificate, other).endswith(
        f"is not the key of the certificate in {certificate}"
    )
    assert " ended on " in refused(workshop, certificate, key, **after(366))
    assert "is valid from" in refused(workshop, certificate, key, **after(-2))
    remarks = identity(workshop, certificate, key, **after(340)).remarks
    assert len(remarks) == 1 and remarks[0].startswith("the certificate ends on ")
    assert "not for a client" in refused(workshop, *workshop.server("no-client"))
    assert "CA's certificate" in refused(workshop, workshop.ca, workshop.ca_key)
    assert "holds a certificate" in refused(workshop, certificate, private(workshop.ca))
    assert "holds a private key" in refused(workshop, key, key)
    assert "of a server or a device" in refused(workshop, certificate, key, anchors=[certificate])
    remarks = identity(workshop, certificate, key, anchors=[workshop.root("cloud")[0]]).remarks
    assert len(remarks) == 1 and "is not among the CAs given" in remarks[0]
    remarks = identity(workshop, certificate, key, device_id="another").remarks
    assert len(remarks) == 1 and "'another'" in remarks[0]
    assert "is no client id" in refused(workshop, certificate, key, device_id="a/b")
    nameless = workshop.sign("nameless", other, subject="a#b")
    assert "give --id" in refused(workshop, nameless, other)


def private(path: Path) -> Path:
    """Return a file as its owner's only."""
    path.chmod(0o600)
    return path


def test_a_key_that_a_board_cannot_use(workshop: Workshop) -> None:
    for kind, said in (
        (("-algorithm", "ED25519"), "of a kind that boards cannot use"),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "secp256k1"),
        (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"), "1024 bits"),
    ):
        files = workshop.device("of-another-kind", *kind)
        what = refused(workshop, *files)
        assert "is not for a board" in what and said in what
    ed25519 = workshop.device("ed25519", "-algorithm", "ED25519")
    made = identity(workshop, *ed25519, for_board=False)
    assert b"BEGIN PRIVATE KEY" in made.issue_device("x", days=None, renew=False).key_pem()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:512"), "(ee key too small)"),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime192v1"), "(ee key too small)"),
        (("-paramfile", "dsa.parameters"), "DSA key"),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:sect233k1"), "of a kind that no TLS"),
    ],
    ids=["rsa-512", "p-192", "dsa", "sect233k1"],
)
def test_a_key_that_no_tls_takes(
    provisioner: Provisioner, workshop: Workshop, tmp_path: Path, how: tuple[str, ...], said: str
) -> None:
    parameters = workshop.directory / "dsa.parameters"
    if how[0] == "-paramfile" and not parameters.exists():
        made = ("-genparam", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:2048")
        workshop.run("genpkey", *made, "-out", parameters)
    files = workshop.device("of-no-use", *how)
    out = tmp_path / "out"
    outcome = provision(provisioner, workshop, 8883, "pi", files, "--out", str(out))
    assert outcome.said(said, "P-256 or RSA key"), outcome.text
    assert not out.exists()


def test_a_certificate_with_a_damaged_extension(workshop: Workshop) -> None:
    key = workshop.key("damaged")
    for extension in ("basicConstraints=critical,DER:ffff", "extendedKeyUsage=DER:30ff"):
        certificate = workshop.sign("damaged", key, extension)
        assert "'CN=damaged' is damaged" in refused(workshop, certificate, key)


def test_a_file_without_an_end(workshop: Workshop) -> None:
    files = workshop.device("endless")
    assert "larger than 4 MB" in refused(workshop, *files, anchors=[Path("/dev/zero")])
    large = workshop.directory / "large.key"
    large.touch(0o600)
    os.truncate(large, 1 << 40)
    assert "larger than 4 MB" in refused(workshop, files[0], large)


def test_a_ca_that_a_boards_mbedtls_cannot_use(workshop: Workshop) -> None:
    key = workshop.key("constrained")
    constraints = "basicConstraints=critical,CA:true\nnameConstraints=critical,permitted;DNS:local"
    ca = workshop.sign("constrained", key, constraints)
    files = workshop.device("below")
    assert "name constraints" in refused(workshop, *files, anchors=[ca])
    assert identity(workshop, *files, anchors=[ca, workshop.ca], for_board=False).remarks == ()


def test_an_encrypted_key_asks_for_its_password(
    provisioner: Provisioner, workshop: Workshop, tmp_path: Path
) -> None:
    certificate, key = workshop.device("locked")
    locked, password = tmp_path / "locked.key", tmp_path / "password"
    for path in (locked, password):
        path.touch(0o600)
    password.write_bytes(PASSWORD)
    workshop.run("ec", "-in", key, "-aes256", "-out", locked, "-passout", f"file:{password}")
    asked = []
    made = identity(workshop, certificate, locked, password=lambda: asked.append(1) or PASSWORD)
    assert asked == [1] and made.device_id == "locked"
    assert "does not open" in refused(workshop, certificate, locked, password=lambda: b"a guess")
    files = certificate, locked
    options = ("--out", str(tmp_path / "out"))
    outcome = provision(provisioner, workshop, 8883, "pi", files, *options)
    assert outcome.said("no terminal to ask", "--key-password-file")
    locked.chmod(0o644)
    outcome = provision(provisioner, workshop, 8883, "pi", files, *options)
    assert outcome.said("chmod 600")
    assert not (tmp_path / "out").exists()


def test_the_three_files_come_together(
    provisioner: Provisioner, workshop: Workshop, tmp_path: Path
) -> None:
    out = ("--broker", "mqtt.example.org", "--out", str(tmp_path / "out"))
    assert provisioner.command("pi", *out).said("Give --id ID")
    ca = ("--ca", str(workshop.ca))
    assert provisioner.command("pi", *out, *ca).said("--certificate and --key is missing")
    files = workshop.device("together")
    outcome = provision(
        provisioner, workshop, 8883, "pi", files, *out[2:], "--certificate-days", "9"
    )
    assert outcome.said("--certificate-days is for a certificate that is issued here")
    outcome = provision(provisioner, workshop, 8883, "pi", files, *out[2:], "--prefix", "a/#")
    assert outcome.said("--prefix must be a topic")
    missing = (tmp_path / "nowhere.crt", files[1])
    assert provision(provisioner, workshop, 8883, "pi", missing, *out[2:]).said("No such file")


class Lamps:
    """The certificate that they share, and the way in."""

    def __init__(self, door: Door, issued: Issued, credentials: Credentials) -> None:
        self.door = door
        self.port = door.broker.port
        self.issued = issued
        self.credentials = credentials
        self.controller = door.credentials("controller")
        self.watching = self.new_password("controller")

    def new_password(self, device_id: str) -> str:
        """Return a new password of a device."""
        made = set_password(self.door.broker.directory / PASSWORDS, device_id)
        self.door.broker.reload()
        return made

    def options(self, device_id: str) -> list[str]:
        """Return the options that provision it, with a new password."""
        file = self.door.directory / f"{device_id}.password"
        file.touch(0o600)
        file.write_text(self.new_password(device_id) + "\n")
        files = (self.door.ca, self.credentials.certificate, self.credentials.key, file)
        names = ("--ca", "--certificate", "--key", "--password-file")
        identity = ["--id", device_id, "--broker", f"localhost:{self.port}"]
        return [*identity, *(str(one) for pair in zip(names, files, strict=True) for one in pair)]

    @contextmanager
    def watch(self) -> Iterator[Peer]:
        """See all that devices publish."""
        with self.door.peer(self.controller) as peer:
            peer.connect("controller", username="controller", password=self.watching)
            peer.subscribe("devices/#")
            yield peer


@pytest.fixture
def lamps(authority: Authority, tmp_path: Path) -> Iterator[Lamps]:
    """Run a broker that asks for passwords, of devices that share a certificate."""
    with open_door(authority, tmp_path / "door", "mosquitto", passwords=True) as door:
        issued = authority.issue_shared(door.new_id("lamps"), renew=True)
        yield Lamps(door, issued, issued_credentials(tmp_path / "shared", issued))


def test_a_bundle_by_a_shared_certificate_has_the_password(
    provisioner: Provisioner, lamps: Lamps, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    options = lamps.options("lamp-1")
    outcome = provisioner.command("pi", *options, "--out", str(out))
    assert (outcome.status, outcome.err) == (0, ""), outcome.text
    assert f"the certificate is the one that {lamps.issued.subject} shares" in outcome.out
    config = json.loads((out / "config.json").read_text())
    assert (config["client_id"], config["username"]) == ("lamp-1", "lamp-1")
    assert "password" not in config and config["password_file"] == "device.password"
    password = (out / "device.password").read_text()
    assert password not in outcome.text and (out / "device.password").stat().st_mode & 0o77 == 0
    with lamps.watch() as watcher:
        assert says(out) == "True\n"
        assert ("devices/lamp-1/hello", b"x") in watcher.drain()
    assert "nothing to change" in provisioner.command("pi", *options, "--out", str(out)).out
    # Another password takes its place; without the option it stays.
    options = lamps.options("lamp-1")
    assert provisioner.command("pi", *options, "--out", str(out)).status == 0
    assert says(out) == "True\n"
    (file,) = out.glob("*.password")
    assert file.read_text() != password
    without = [*options[:-2], "--keep-alive", "30"]
    assert provisioner.command("pi", *without, "--out", str(out)).status == 0
    assert says(out) == "True\n"


def test_a_board_by_a_shared_certificate_connects(
    provisioner: Provisioner, lamps: Lamps, simulated_board: SimulatedBoard
) -> None:
    board = ("--port", simulated_board.port, *provisioner.wifi)
    with lamps.watch() as watcher:
        outcome = provisioner.command("simulated", *lamps.options("lamp-2"), *board)
        assert (outcome.status, outcome.err) == (0, ""), outcome.text
        assert "message acknowledged" in outcome.out
        assert "devices/lamp-2/provisioned" in dict(watcher.drain())
    config = json.loads(read(simulated_board, "/secure/config.json"))
    assert config["username"] == "lamp-2" and config["password_file"] == "device.password"
    first = read(simulated_board, "/secure/device.password")
    options = lamps.options("lamp-2")
    outcome = provisioner.command("simulated", *options, *board)
    assert (outcome.status, outcome.err) == (0, ""), outcome.text
    named = json.loads(read(simulated_board, "/secure/config.json"))["password_file"]
    assert read(simulated_board, f"/secure/{named}") != first
    outcome = provisioner.command("simulated", *options, *board)
    assert "nothing to change" in outcome.out
