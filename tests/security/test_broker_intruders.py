"""Who is kept out of the broker, and who is let in: the same for every engine and transport.

Judged by CONNACK: with TLS 1.3 the handshake succeeds on the client's side before the broker has
looked at the certificate.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest

from support.brokers.doors import Door
from support.brokers.mqtt import Peer, Refused, delivered
from support.identities.credentials import (
    SERVER_AUTH,
    Credentials,
    client_certificate,
    issued_credentials,
    namesake_of,
    signer_of,
)
from support.network.net import wait_until
from support.speed import seconds


def refusal(door: Door, credentials: Credentials | None, client_id: str = "intruder") -> Refused:
    """Try to get in and return the refusal; the test fails if there is none."""
    with pytest.raises(Refused) as caught, door.peer(credentials) as peer:
        peer.connect(client_id)
    return caught.value


def test_device_enters(door: Door) -> None:
    device_id = door.new_id()
    with door.enter(device_id) as peer:
        assert peer.subscribe(f"devices/{device_id}/#") == 1
        peer.publish(f"devices/{device_id}/t", b"21")
        assert peer.receive() == (f"devices/{device_id}/t", b"21")


def test_no_certificate(door: Door) -> None:
    refusal(door, None)


def test_no_certificate_fails_the_handshake(door: Door) -> None:
    """With TLS 1.2 the client sees it: no MQTT is spoken with whoever shows no certificate."""
    context = door.context(None)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(Refused, match="handshake"):
        Peer(door.port, context, websockets=door.websockets)


def test_foreign_authority_of_the_same_name(door: Door) -> None:
    refusal(door, client_certificate(door.directory, namesake_of(door.authority), [door.new_id()]))


def test_expired(door: Door) -> None:
    device_id = door.new_id()
    signer = signer_of(door.authority)
    refusal(
        door,
        client_certificate(door.directory, signer, [device_id], age=timedelta(days=9)),
        device_id,
    )


def test_not_yet_valid(door: Door) -> None:
    device_id = door.new_id()
    signer = signer_of(door.authority)
    refusal(
        door,
        client_certificate(door.directory, signer, [device_id], age=timedelta(hours=-1)),
        device_id,
    )


def test_control_certificate_made_the_same_way_enters(door: Door) -> None:
    """What the certificates above lack is what they are refused for: one made alike, without the
    flaw, gets in.
    """
    device_id = door.new_id()
    with door.enter(
        device_id, client_certificate(door.directory, signer_of(door.authority), [device_id])
    ):
        pass


def test_server_certificate_is_no_client(door: Door) -> None:
    device_id = door.new_id()
    signer = signer_of(door.authority)
    refusal(
        door,
        client_certificate(door.directory, signer, [device_id], usages=[SERVER_AUTH]),
        device_id,
    )


def test_the_brokers_own_certificate_is_no_client(door: Door) -> None:
    issued = door.authority.issue_server(["localhost"], renew=True)
    refusal(door, issued_credentials(door.directory, issued), "localhost")


def test_certificate_without_eku_is_held_to_its_name(door: Door) -> None:
    """OpenSSL takes a certificate without an extended key usage as good for any use. Our authority
    issues none; were there one, it is still bound to its own prefix."""
    device_id, victim = door.new_id(), door.new_id("victim")
    credentials = client_certificate(
        door.directory, signer_of(door.authority), [device_id], usages=[]
    )
    with door.enter(victim) as receiver:
        receiver.subscribe(f"devices/{victim}/#")
        try:
            with door.enter(device_id, credentials) as peer:
                peer.publish(f"devices/{victim}/t", b"forged")
        except Refused:
            pass
        assert delivered(receiver, receiver, f"devices/{victim}/t") == []


def test_no_common_name(door: Door) -> None:
    refusal(door, client_certificate(door.directory, signer_of(door.authority), []))


def test_revoked(door: Door) -> None:
    device_id = door.new_id() + "0"
    credentials = door.credentials(device_id)
    with door.enter(device_id, credentials):
        pass
    door.revoke(device_id)
    refusal(door, credentials, device_id)
    # and nobody else, as alike as the id may be
    for alike in (device_id + "0", device_id[:-1], f"x{device_id}"):
        with door.enter(alike):
            pass


def test_revocation_ends_the_live_session(door: Door) -> None:
    device_id = door.new_id()
    with door.enter(device_id) as peer:
        door.revoke(device_id)
        peer.wait_closed()


def test_revocation_holds_for_who_had_shown_its_certificate_before(door: Door) -> None:
    """The TLS handshake is over, and CONNECT is still to come."""
    device_id = door.new_id()
    context = door.context(door.credentials(device_id))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the client knows when it is over
    with Peer(door.port, context, websockets=door.websockets) as peer:
        door.revoke(device_id)

        def is_out() -> bool:
            door.broker.keep_out()
            try:
                peer.drain()
            except (Refused, OSError):
                return True
            return False

        with suppress(Refused, OSError):
            peer.connect(device_id)
        wait_until(is_out, seconds(5), "the end of the revoked")


def test_revocation_leaves_all_others_as_they_are(door: Door) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(door.enter(door.new_id("other"))) for _ in range(5)]
        device_id = door.new_id()
        with door.enter(device_id) as peer:
            door.revoke(device_id)
            peer.wait_closed()
        # A new certificate is good at once, as often as the broker looks for the old one.
        if door.tells_certificates_apart:
            peer = stack.enter_context(door.enter(device_id))
            door.broker.keep_out()
            others.append(peer)
            for other in others:
                other.drain()
        else:  # it takes a restart there
            for other in others:
                other.wait_closed()


def test_revoked_device_cannot_resume_its_tls_session(door: Door) -> None:
    """A resumed handshake looks at no certificate and no CRL, so the broker must have forgotten the
    session.
    """
    device_id = door.new_id()
    context = door.context(door.credentials(device_id))
    with Peer(door.port, context, websockets=door.websockets) as peer:
        peer.connect(device_id)
        peer.drain()
        session = peer.tls.session
    door.revoke(device_id)
    with (
        pytest.raises(Refused),
        Peer(door.port, context, websockets=door.websockets, session=session) as peer,
    ):
        peer.connect(device_id)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_expired_certificate_cannot_resume_its_tls_session(
    door: Door, version: ssl.TLSVersion
) -> None:
    device_id = door.new_id()
    credentials = client_certificate(
        door.directory,
        signer_of(door.authority),
        [device_id],
        lifetime=timedelta(hours=1, seconds=seconds(1)),
    )
    ends = time.time() + seconds(1)
    context = door.context(credentials)
    context.maximum_version = context.minimum_version = version
    with Peer(door.port, context, websockets=door.websockets) as peer:
        peer.connect(device_id)
        peer.drain()
        session = peer.tls.session
    wait_until(lambda: time.time() > ends + 1, seconds(10), "the certificate's end")
    if not door.broker.end_tls_sessions():
        door.broker.restart()
    with (
        pytest.raises(Refused),
        Peer(door.port, context, websockets=door.websockets, session=session) as peer,
    ):
        peer.connect(device_id)


def test_device_with_a_new_certificate_after_revocation(door: Door) -> None:
    """The new certificate is good, the old one is not.

    Where the two cannot be told apart, neither is, and the new one is good through the other door.
    """
    device_id = door.new_id()
    old = door.credentials(device_id)
    door.authority.revoke(device_id)
    new = door.credentials(device_id)
    door.update()
    refusal(door, old, device_id)
    way_in = door
    if not door.tells_certificates_apart:
        refusal(door, new, device_id)
        way_in = Door(door.broker, door.authority, door.directory)
    with way_in.enter(device_id, new) as peer:
        assert peer.subscribe(f"devices/{device_id}/#") == 1
        peer.publish(f"devices/{device_id}/t", b"still here")
        assert peer.receive() == (f"devices/{device_id}/t", b"still here")


@pytest.mark.parametrize(
    "first_bytes", [b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04evil", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_plaintext(door: Door, first_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=seconds(20)) as plain:
        plain.sendall(first_bytes)
        answer = b""
        try:
            while chunk := plain.recv(4096):
                answer += chunk
        except ConnectionResetError:
            pass
    assert not answer.startswith(b"\x20")  # no CONNACK
    assert b"101" not in answer[:20]


def _tls_1_1(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


def _tls_1_2_with(ciphers: str) -> Callable[[ssl.SSLContext], None]:
    def configure(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)

    return configure


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "weaken",
    [
        pytest.param(_tls_1_1, id="TLS 1.1"),
        pytest.param(_tls_1_2_with("ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"), id="CBC"),
        pytest.param(_tls_1_2_with("ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"), id="CBC-SHA1"),
        pytest.param(_tls_1_2_with("AES128-GCM-SHA256:@SECLEVEL=0"), id="RSA key exchange"),
        pytest.param(_tls_1_2_with("ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"), id="CCM8"),
        pytest.param(_tls_1_2_with("aNULL:@SECLEVEL=0"), id="anonymous key exchange"),
    ],
)
def test_weak_tls(door: Door, weaken: Callable[[ssl.SSLContext], None]) -> None:
    device_id = door.new_id()
    context = door.context(door.credentials(device_id))
    weaken(context)
    with (
        pytest.raises(Refused, match="handshake"),
        Peer(door.port, context, websockets=door.websockets) as peer,
    ):
        peer.connect(device_id)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_strong_tls(door: Door, version: ssl.TLSVersion) -> None:
    device_id = door.new_id()
    context = door.context(door.credentials(device_id))
    context.minimum_version = context.maximum_version = version
    with Peer(door.port, context, websockets=door.websockets) as peer:
        peer.connect(device_id)
        assert peer.tls.version() == version.name.replace("v1_", "v1.")


def test_client_id_of_another_is_not_taken_over(door: Door) -> None:
    """The client id in CONNECT counts for nothing: a thief neither ends the victim's connection nor
    gets its session.
    """
    victim, thief = door.new_id("victim"), door.new_id("thief")
    with door.enter(victim) as held, door.peer(door.credentials(thief)) as attacker:
        held.subscribe(f"devices/{victim}/#")
        try:
            attacker.connect(victim, clean=True)
        except Refused:
            pass
        else:
            attacker.publish(f"devices/{thief}/t", b"as myself")
        held.publish(f"devices/{victim}/t", b"still here")
        assert held.receive() == (f"devices/{victim}/t", b"still here")


def test_own_client_id_is_taken_over_by_oneself(door: Door) -> None:
    """A device that comes back on a new connection is not shut out by its own half-dead old one."""
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    with door.enter(device_id, credentials) as old, door.enter(device_id, credentials) as new:
        old.wait_closed()
        new.subscribe(f"devices/{device_id}/#")
        new.publish(f"devices/{device_id}/t", b"here")
        assert new.receive() == (f"devices/{device_id}/t", b"here")


def test_username_in_connect_counts_for_nothing(door: Door) -> None:
    device_id, victim = door.new_id(), door.new_id("victim")
    with door.enter(victim) as receiver, door.peer(door.credentials(device_id)) as peer:
        receiver.subscribe(f"devices/{victim}/#")
        peer.connect(device_id, username=victim, password="anything")
        peer.publish(f"devices/{victim}/t", b"forged")
        assert delivered(receiver, receiver, f"devices/{victim}/t") == []
