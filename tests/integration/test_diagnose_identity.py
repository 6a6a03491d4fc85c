"""Promise 4, the device's certificate: missing, refused, expired, revoked, with another's key."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.brokers.servers import after, mosquitto, tls_server
from support.identities.laboratory import Device, Laboratory, days_from_now
from support.network.net import free_port
from support.packets import ACCEPTED


# Mosquitto speaks TLS 1.3 with a Pi, the other server 1.2.
@pytest.fixture(scope="module", params=["mosquitto", "tls1.2"])
def strict_port(
    request: pytest.FixtureRequest, lab: Laboratory, mosquitto_port: int
) -> Iterator[int]:
    """Run a broker that looks at certificates and the revocation list."""
    if request.param == "mosquitto":
        yield mosquitto_port
        return
    context = lab.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.load_verify_locations(lab.crl)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    with tls_server(context, after(ACCEPTED)) as port:
        yield port


def test_no_client_certificate(lab: Laboratory, device: Device, strict_port: int) -> None:
    alone = {"certificate": [], "key": None, "username": "u", "password": "p"}
    report = device.fails(
        lab.bundle(device, strict_port, imported=True, **alone), "ClientCertificateMissing"
    )
    assert not report.transient
    assert "securemqtt provision" in report.remedy


def test_foreign_client_certificate(lab: Laboratory, device: Device, strict_port: int) -> None:
    report = device.fails(lab.bundle(device, strict_port, lab.foreign), "ClientCertificateRefused")
    assert "another CA" in report.cause and "alert 48" in report.code


def test_expired_client_certificate(lab: Laboratory, device: Device, strict_port: int) -> None:
    report = device.fails(lab.bundle(device, strict_port, lab.past), "ClientCertificateExpired")
    assert f"{days_from_now(days=-90):%Y-%m-%d}" in report.what


def test_client_certificate_that_is_not_valid_yet(
    lab: Laboratory, device: Device, strict_port: int
) -> None:
    report = device.fails(lab.bundle(device, strict_port, lab.future), "ClientCertificateRefused")
    assert "not begun yet" in report.cause


def test_revoked_client_certificate(lab: Laboratory, device: Device, strict_port: int) -> None:
    bundle = lab.bundle(device, strict_port)
    lab.put(bundle, device, lab.revoked)
    report = device.fails(bundle, "ClientCertificateRevoked")
    assert "ca revoke" in report.cause


def test_server_certificate_shown_by_a_device(
    lab: Laboratory, device: Device, strict_port: int
) -> None:
    bundle = lab.bundle(device, strict_port)
    lab.put(bundle, device, lab.now.issue_server([lab.new_id()], renew=True))
    report = device.fails(bundle, "ClientCertificateRefused")
    assert "another use" in report.cause


def test_stale_revocation_list(lab: Laboratory, device: Device) -> None:
    with mosquitto(lab.directory / "mosquitto", *lab.mosquitto_lines(lab.stale_crl)) as port:
        report = device.fails(lab.bundle(device, port), "ClientCertificateRefused")
    assert "revocation list" in report.cause and "broker reload" in report.remedy


@pytest.mark.parametrize("encoding", ["PKCS 8", "SEC1"])
@pytest.mark.parametrize("key_type", ["p256", "p384"])
def test_key_of_another_certificate_shows_without_a_broker(
    lab: Laboratory, device: Device, key_type: str, encoding: str
) -> None:
    bundle = lab.bundle(device, free_port())
    identity, other = (lab.now.issue_device(lab.new_id(), key_type=key_type) for _ in range(2))
    lab.put(bundle, device, identity)
    for issued, name in ((identity, "ConnectionRefused"), (other, "KeyMismatch")):
        form = PrivateFormat.PKCS8 if encoding == "PKCS 8" else PrivateFormat.TraditionalOpenSSL
        assert issued.key is not None
        key = issued.key.private_bytes(
            Encoding.DER if device.is_board else Encoding.PEM, form, NoEncryption()
        )
        (bundle / "device.key").write_bytes(key)
        report = device.fails(bundle, name)
    assert "device.key is not the key of " in report.what


@pytest.mark.parametrize("key_type", ["p256", "p384", "rsa2048"])
def test_key_of_another_certificate(
    lab: Laboratory, device: Device, mosquitto_port: int, key_type: str
) -> None:
    bundle = lab.bundle(device, mosquitto_port)
    lab.put(bundle, device, lab.now.issue_device(lab.new_id(), key_type=key_type))
    other = lab.now.issue_device(lab.new_id(), key_type=key_type)
    (bundle / "device.key").write_bytes(other.key_der() if device.is_board else other.key_pem())
    report = device.fails(bundle, "KeyMismatch")
    assert not report.transient
