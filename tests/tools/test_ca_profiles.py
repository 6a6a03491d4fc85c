"""What stands in the certificates, judged by openssl in strict mode and by Python's TLS."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority, Issued
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.profiles import anchor_without
from support.requirements import require_program
from support.speed import seconds

KINDS = [("p256", False), ("p256", True), ("rsa2048", True)]


@pytest.fixture(
    scope="module", params=KINDS, ids=["p256", "p256-intermediate", "rsa2048-intermediate"]
)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority of each kind."""
    key_type, intermediate = request.param
    directory = tmp_path_factory.mktemp("kinds") / "ca"
    return Authority.create(
        directory, name="kinds", passphrase=None, intermediate=intermediate, key_type=key_type
    )


def verify(
    authority: Authority, issued: Issued, purpose: str, *options: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run `openssl verify` in strict mode with the CRLs."""
    directory = authority.directory
    (directory / "leaf.pem").write_bytes(issued.certificate_pem())
    (directory / "chain.pem").write_bytes(issued.chain_pem())
    root_crl = directory / "root-crl.pem"
    (directory / "crls.pem").write_bytes(
        authority.crl_pem() + (root_crl.read_bytes() if root_crl.exists() else b"")
    )
    command: list[str | Path] = [
        require_program("openssl"),
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        *options,
    ]
    command += ["-crl_check_all", "-CRLfile", directory / "crls.pem"]
    command += [
        "-CAfile",
        directory / "root.crt",
        "-untrusted",
        directory / "chain.pem",
        directory / "leaf.pem",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds(30), check=False)


@pytest.mark.parametrize("key_type", ["p256", "rsa2048"])
def test_openssl_accepts_each_certificate_for_its_own_purpose_only(
    kind: Authority, key_type: str
) -> None:
    device = kind.issue_device(f"strict-{key_type}", key_type=key_type)
    server = kind.issue_server([f"{key_type}.local", "10.0.0.1"], key_type=key_type)
    assert (
        verify(kind, device, "sslclient").stdout,
        verify(kind, device, "sslserver").returncode,
    ) == (
        f"{kind.directory / 'leaf.pem'}: OK\n",
        2,
    )
    assert (
        verify(kind, server, "sslserver").returncode,
        verify(kind, server, "sslclient").returncode,
    ) == (0, 2)


def test_openssl_checks_the_names_of_a_server(kind: Authority) -> None:
    server = kind.issue_server(["Names.local", "10.1.2.3", "fd00::1"])
    good = [
        ("-verify_hostname", "names.local"),
        ("-verify_ip", "10.1.2.3"),
        ("-verify_ip", "fd00::1"),
    ]
    assert [verify(kind, server, "sslserver", *option).returncode for option in good] == [0, 0, 0]
    assert verify(kind, server, "sslserver", "-verify_hostname", "other.local").returncode == 2


def test_openssl_refuses_a_revoked_certificate(kind: Authority) -> None:
    device = kind.issue_device("revoked")
    assert verify(kind, device, "sslclient").returncode == 0
    kind.revoke("revoked", reason="keyCompromise")
    assert "certificate revoked" in verify(kind, device, "sslclient").stderr


def test_openssl_refuses_an_id_that_the_anchor_excludes(kind: Authority) -> None:
    """Mosquitto before 2.1 has nothing else to go by over WebSockets."""
    excluded = ["lost", "lost-2", "Stolen"]
    anchor = kind.directory / "anchor.pem"
    for ids in ([], excluded):
        anchor.write_bytes(certificate_pem(anchor_without(kind.issuing_certificate, ids)))
        refused = []
        for device_id in (*excluded, "los", "lost-", "lost-22", "stolen", "xlost"):
            issued = kind.issue_device(device_id, renew=True)
            (kind.directory / "chain.pem").write_bytes(issued.chain_pem())
            command: list[str | Path] = [require_program("openssl"), "verify"]
            command += ["-purpose", "sslclient", "-CAfile", anchor]
            command += ["-untrusted", kind.directory / "chain.pem", kind.directory / "chain.pem"]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds(30), check=False
            )
            if done.returncode:
                assert "excluded subtree violation" in done.stderr
                refused.append(device_id)
        assert refused == ([*ids, "stolen"] if ids else [])  # capitals are not told apart


def test_a_leaf_has_what_the_profile_says_and_nothing_more(kind: Authority) -> None:
    issued = kind.issue_device("leaf")
    leaf = issued.certificate
    critical = {type(extension.value): extension.critical for extension in leaf.extensions}
    assert critical == {
        x509.KeyUsage: True,
        x509.ExtendedKeyUsage: False,
        x509.AuthorityKeyIdentifier: False,
    }
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (
        True,
        False,
        False,
    )
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.subject.rfc4514_string() == "CN=leaf"
    assert leaf.signature_hash_algorithm is not None
    assert leaf.signature_hash_algorithm.name == "sha256"


def test_a_server_is_for_server_authentication_only(kind: Authority) -> None:
    server = kind.issue_server(["purpose.local"]).certificate
    purposes = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_ca_is_bound_to_its_depth_and_has_no_purposes(kind: Authority) -> None:
    lengths = []
    for certificate in filter(None, (kind.root, kind.intermediate)):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert (basic.critical, basic.value.ca, usage.critical) == (True, True, True)
        assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (
            True,
            True,
            False,
        )
        with pytest.raises(x509.ExtensionNotFound):
            certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        lengths.append(basic.value.path_length)
    assert lengths == ([1, 0] if kind.intermediate else [1])


def test_serial_numbers_are_random_and_long(kind: Authority) -> None:
    serials = [
        kind.issue_device(f"serial-{number}").certificate.serial_number for number in range(8)
    ]
    assert len(set(serials)) == 8
    # the chance that one of eight 159-bit numbers is this short is 1e-25
    assert min(serials).bit_length() > 64 + 8


def test_validity_starts_early_and_ends_with_the_issuer(tmp_path: Path) -> None:
    made = datetime(2026, 1, 1, tzinfo=timezone.utc)
    authority = Authority.create(tmp_path / "ca", passphrase=None, clock=lambda: made)
    first = authority.issue_device("early").certificate
    assert first.not_valid_before_utc == made - timedelta(hours=1)
    assert first.not_valid_after_utc == made + timedelta(days=5 * 365)
    late = Authority.open(tmp_path / "ca", clock=lambda: made + timedelta(days=20 * 365 - 10))
    assert (
        late.issue_device("late").certificate.not_valid_after_utc
        == authority.root.not_valid_after_utc
    )
    with pytest.raises(FatalError, match="11 days is out of range: from 1 to 10"):
        late.issue_device("too-late", days=11)


def test_a_long_server_name_stands_in_the_alternative_names_alone(kind: Authority) -> None:
    name = ".".join(["a-label-of-some-length"] * 4) + ".local"
    issued = kind.issue_server([name])
    assert not issued.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert issued.certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).critical
    assert verify(kind, issued, "sslserver", "-verify_hostname", name).returncode == 0


def test_the_key_is_the_certificates_in_every_form(kind: Authority) -> None:
    issued = kind.issue_device("forms")
    key = load_pem_private_key(issued.key_pem(), None)
    assert key.public_key() == issued.certificate.public_key()
    assert (
        load_pem_private_key(issued.key_pem(b"secret"), b"secret").public_key() == key.public_key()
    )
    assert b"ENCRYPTED" in issued.key_pem(b"secret")
    assert [x509.load_der_x509_certificate(one) for one in issued.chain_der()] == list(issued.chain)
    assert len(issued.chain) == (2 if kind.intermediate else 1)
    assert "PrivateKey" not in repr(issued)


class Link:
    """Two ends of TLS in memory."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name)

    def handshake(self) -> str:
        """Shake hands and exchange a byte; return the client's common name as the server sees
        it.
        """
        for _ in range(4):
            for end in (self.client, self.server):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        self.client.write(b"x")
        assert self.server.read(1) == b"x"
        certificate = self.server.getpeercert() or {}
        subject = dict(pair[0] for pair in certificate["subject"])  # type: ignore[union-attr, misc]
        return str(subject["commonName"])  # type: ignore[index]


def contexts(
    authority: Authority, server: Issued, client: Issued, where: Path
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make contexts as a strict broker (with CRL) and a strict client have them."""
    made = []
    for protocol, issued in ((ssl.PROTOCOL_TLS_SERVER, server), (ssl.PROTOCOL_TLS_CLIENT, client)):
        for name, content in (
            ("chain", issued.chain_pem()),
            ("key", issued.key_pem()),
            ("ca", certificate_pem(authority.root)),
        ):
            (where / name).write_bytes(content)
        context = ssl.SSLContext(protocol)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(where / "ca")
        context.load_cert_chain(where / "chain", where / "key")
        made.append(context)
    (where / "crl.pem").write_bytes(authority.crl_pem())
    made[0].load_verify_locations(where / "crl.pem")
    made[0].verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return made[0], made[1]


def test_tls_between_what_was_issued(kind: Authority, tmp_path: Path) -> None:
    server, client = kind.issue_server(["tls.local"]), kind.issue_device("tls-device")
    assert Link(*contexts(kind, server, client, tmp_path), "tls.local").handshake() == "tls-device"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        Link(*contexts(kind, server, client, tmp_path), "other.local").handshake()
    kind.revoke("tls-device")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        Link(*contexts(kind, server, client, tmp_path), "tls.local").handshake()


def test_tls_refuses_a_server_as_a_client(kind: Authority, tmp_path: Path) -> None:
    server, other = kind.issue_server(["role.local"]), kind.issue_server(["role-other.local"])
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        Link(*contexts(kind, server, other, tmp_path), "role.local").handshake()
