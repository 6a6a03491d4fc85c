"""Signing requests: made by the real openssl, as a user makes them, and by an attacker."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.keys import check_public_key
from securemqtt_tools.pki.names import check_device_id, server_names
from support.requirements import require_program
from support.speed import seconds


def openssl_request(where: Path, subject: str, *options: str, key: tuple[str, ...] = ()) -> bytes:
    """Make a request with `openssl req`, in PEM."""
    key = key or ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    command = [
        require_program("openssl"),
        "req",
        "-new",
        *key,
        "-nodes",
        "-keyout",
        str(where / "request.key"),
    ]
    command += ["-subj", subject, "-out", str(where / "request.csr"), *options]
    subprocess.run(command, check=True, capture_output=True, timeout=seconds(60))
    return (where / "request.csr").read_bytes()


def request_for(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, common_name: str, in_der: bool = False
) -> bytes:
    """Make a request with a given key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(
        serialization.Encoding.DER if in_der else serialization.Encoding.PEM
    )


def test_a_device_keeps_its_key(authority: Authority, tmp_path: Path) -> None:
    issued = authority.sign_csr(openssl_request(tmp_path, "/O=Somebody/CN=csr-own-key"))
    assert (issued.subject, issued.key) == ("csr-own-key", None)
    key = serialization.load_pem_private_key((tmp_path / "request.key").read_bytes(), None)
    assert issued.certificate.public_key() == key.public_key()
    assert issued.certificate.subject.rfc4514_string() == "CN=csr-own-key"
    with pytest.raises(FatalError, match="was never here"):
        issued.key_pem()


def test_wishes_beyond_the_profile_are_ignored(authority: Authority, tmp_path: Path) -> None:
    wishes = (
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=keyCertSign",
        "extendedKeyUsage=serverAuth",
    )
    options = [part for wish in wishes for part in ("-addext", wish)]
    request = openssl_request(
        tmp_path, "/CN=csr-greedy", *options, "-addext", "subjectAltName=DNS:mqtt.local"
    )
    certificate = authority.sign_csr(request).certificate
    present = {type(extension.value) for extension in certificate.extensions}
    assert present == {x509.KeyUsage, x509.ExtendedKeyUsage, x509.AuthorityKeyIdentifier}
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        x509.ExtendedKeyUsageOID.CLIENT_AUTH
    ]


def test_a_servers_names_come_from_the_operator_else_from_the_request(
    authority: Authority, tmp_path: Path
) -> None:
    names = "subjectAltName=DNS:csr-a.local,IP:10.0.0.9,email:someone@example.org"
    request = openssl_request(tmp_path, "/CN=ignored", "-addext", names)
    assert authority.sign_csr(request, role="server").names == ("csr-a.local", "10.0.0.9")
    chosen = authority.sign_csr(
        openssl_request(tmp_path, "/CN=x"), role="server", names=["csr-b.local"]
    )
    assert chosen.names == ("csr-b.local",)


def test_the_operator_may_name_the_device(authority: Authority) -> None:
    request = request_for(ec.generate_private_key(ec.SECP256R1()), "ESP32 #7", in_der=True)
    with pytest.raises(FatalError, match="'ESP32 #7' is no device id"):
        authority.sign_csr(request)
    assert authority.sign_csr(request, device_id="csr-named").subject == "csr-named"


def test_a_changed_request_is_refused(authority: Authority, tmp_path: Path) -> None:
    request = x509.load_pem_x509_csr(openssl_request(tmp_path, "/CN=csr-original"))
    changed = request.public_bytes(serialization.Encoding.DER).replace(
        b"csr-original", b"csr-intruder"
    )
    with pytest.raises(FatalError, match="signature does not fit"):
        authority.sign_csr(changed)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (("-newkey", "rsa:1024"), "RSA key has 1024 bits"),
        (("-newkey", "ed25519"), "of a kind that boards cannot use"),
        (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "on the curve secp256k1"),
    ],
    ids=["short", "ed25519", "curve"],
)
def test_unfit_keys_are_refused(
    authority: Authority, tmp_path: Path, key: tuple[str, ...], message: str
) -> None:
    with pytest.raises(FatalError, match=message):
        authority.sign_csr(openssl_request(tmp_path, "/CN=csr-unfit", key=key))


@pytest.mark.parametrize(
    ("bits", "exponent", "message"), [(8192, 65537, "has 8192 bits"), (2048, 3, "below 65537")]
)
def test_unfit_rsa_keys_are_refused(bits: int, exponent: int, message: str) -> None:
    # not a real key; that is not what is looked at
    numbers = rsa.RSAPublicNumbers(exponent, (1 << (bits - 1)) + 1)
    with pytest.raises(FatalError, match=message):
        check_public_key(numbers.public_key())


def test_an_outdated_hash_is_refused(authority: Authority, tmp_path: Path) -> None:
    request = openssl_request(tmp_path, "/CN=csr-sha1", "-sha1")
    with pytest.raises(FatalError, match="outdated hash"):
        authority.sign_csr(request)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"\x30\x82\xff\xff"]
)
def test_what_is_no_request_is_refused(authority: Authority, content: bytes) -> None:
    with pytest.raises(FatalError, match="no certificate signing request"):
        authority.sign_csr(content)


def test_one_key_serves_one_device(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    authority.sign_csr(request_for(key, "csr-first"))
    with pytest.raises(FatalError, match="belongs to device csr-first already"):
        authority.sign_csr(request_for(key, "csr-second"))
    with pytest.raises(FatalError, match="use ca renew"):
        authority.sign_csr(request_for(key, "csr-first"))
    assert authority.sign_csr(request_for(key, "csr-first"), renew=True).subject == "csr-first"
    authority.revoke("csr-first", reason="keyCompromise")
    with pytest.raises(FatalError, match=r"was revoked \(keyCompromise\): make a new one"):
        authority.sign_csr(request_for(key, "csr-first"))


def test_renewing_what_came_from_a_request_keeps_its_key(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    authority.sign_csr(request_for(key, "csr-renewed"))
    renewed = authority.renew("csr-renewed")
    assert (renewed.certificate.public_key(), renewed.key) == (key.public_key(), None)


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * 64, "a-"])
def test_device_ids_that_are_taken(text: str) -> None:
    assert check_device_id(text) == text


@pytest.mark.parametrize(
    "text", ["", "-", "-a", "x" * 65, "a/b", "a+", "#", "a b", "a\n", "é", "a.b", "a\x00"]
)
def test_device_ids_that_could_escape_their_topics_are_refused(
    authority: Authority, text: str
) -> None:
    with pytest.raises(FatalError, match="is no device id"):
        authority.issue_device(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "-a",
        "a b",
        "mqtt.local:8883",
        "*.local",
        "300.1.1.1",
        "x" * 64,
        "https://a",
        "bücher.de",
        "a\n",
    ],
)
def test_server_names_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(FatalError, match=r"neither a host name|not ASCII"):
        server_names([text])


@pytest.mark.parametrize(
    ("text", "right"),
    [("[::1]", "::1"), ("localhost.", "localhost"), ("fe80::1%eth0", "fe80::1")],
)
def test_names_that_no_client_compares_are_refused_with_what_to_write(
    text: str, right: str
) -> None:
    with pytest.raises(FatalError, match=f"never what a certificate .*: write {right}$"):
        server_names([text])


def test_server_names_are_normal_and_each_once() -> None:
    names = server_names(
        ["MQTT.local", "mqtt.local", "my_pi", "127.0.0.1", "::1", "0:0::1", "xn--bcher-kva.de"]
    )
    assert [str(name.value) for name in names] == [
        "mqtt.local",
        "my_pi",
        "127.0.0.1",
        "::1",
        "xn--bcher-kva.de",
    ]
    with pytest.raises(FatalError, match="at least one"):
        server_names([])
