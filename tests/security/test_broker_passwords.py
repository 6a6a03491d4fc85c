"""Passwords on top of certificates: both are demanded.

The embedded broker demands that both belong to one id.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from securemqtt_tools.broker.passwords import remove_password, set_password
from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.brokers.mqtt import Peer, Refused
from support.identities.credentials import Credentials, client_certificate, namesake_of
from support.requirements import require_program

NOT_AUTHORISED = {4, 5}


@pytest.fixture(
    scope="module",
    params=[("mosquitto", False), ("mosquitto", True), ("amqtt", False), ("amqtt", True)],
    ids=lambda door: f"{door[0]}-{'wss' if door[1] else 'tls'}",
)
def guarded(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    engine, websockets = request.param
    if engine == "mosquitto":
        require_program("mosquitto")
    with open_door(
        authority, tmp_path_factory.mktemp("door"), engine, websockets, passwords=True
    ) as opened:
        yield opened


def give_password(door: Door, *ids: str) -> list[str]:
    made = [set_password(door.broker.directory / "passwords", device_id) for device_id in ids]
    door.broker.reload()
    return made


def login(
    door: Door, credentials: Credentials | None, username: str | None, password: str | None
) -> Peer:
    peer = door.peer(credentials)
    try:
        peer.connect(username or "device", username=username, password=password)
    except BaseException:
        peer.drop()
        raise
    return peer


def test_both_together(guarded: Door) -> None:
    device_id = guarded.new_id()
    (password,) = give_password(guarded, device_id)
    with login(guarded, guarded.credentials(device_id), device_id, password) as peer:
        peer.subscribe(f"devices/{device_id}/#")
        peer.publish(f"devices/{device_id}/t", b"21")
        assert peer.receive() == (f"devices/{device_id}/t", b"21")


@pytest.mark.parametrize("wrong", ["", "wrong", None])
def test_certificate_without_its_password(guarded: Door, wrong: str | None) -> None:
    device_id = guarded.new_id()
    give_password(guarded, device_id)
    with pytest.raises(Refused) as caught:
        login(guarded, guarded.credentials(device_id), device_id, wrong)
    assert caught.value.code in NOT_AUTHORISED


def test_certificate_without_a_user_name(guarded: Door) -> None:
    device_id = guarded.new_id()
    give_password(guarded, device_id)
    with pytest.raises(Refused):
        login(guarded, guarded.credentials(device_id), None, None)


def test_own_password_under_another_user_name(guarded: Door) -> None:
    own, other = guarded.new_id("own"), guarded.new_id("other")
    password, _ = give_password(guarded, own, other)
    with pytest.raises(Refused) as caught:
        login(guarded, guarded.credentials(own), other, password)
    assert caught.value.code in NOT_AUTHORISED


def test_certificate_of_an_id_that_has_no_password(guarded: Door) -> None:
    device_id = guarded.new_id()
    with pytest.raises(Refused):
        login(guarded, guarded.credentials(device_id), device_id, "")


def test_password_without_a_certificate(guarded: Door) -> None:
    device_id = guarded.new_id()
    (password,) = give_password(guarded, device_id)
    for credentials in (
        None,
        client_certificate(guarded.directory, namesake_of(guarded.authority), [device_id]),
    ):
        with pytest.raises(Refused):
            login(guarded, credentials, device_id, password)


def test_password_with_a_revoked_certificate(guarded: Door) -> None:
    device_id = guarded.new_id()
    (password,) = give_password(guarded, device_id)
    credentials = guarded.credentials(device_id)
    guarded.revoke(device_id)
    with pytest.raises(Refused):
        login(guarded, credentials, device_id, password)


def test_revocation_ends_a_session_under_the_name_of_another(guarded: Door) -> None:
    """Which Mosquitto allows whoever has the other's password."""
    own, other = guarded.new_id("own"), guarded.new_id("other")
    mine, password = give_password(guarded, own, other)
    if guarded.broker.engine == "amqtt":
        other, password = own, mine
    with login(guarded, guarded.credentials(own), other, password) as peer:
        guarded.revoke(own)
        peer.wait_closed()


def test_password_of_another(guarded: Door) -> None:
    """Mosquitto cannot tell whose certificate it was: who has another's password passes for that
    other, as `--help` says. The client id still is the one that the password stands for, so no
    third party is touched."""
    own, other = guarded.new_id("own"), guarded.new_id("other")
    _, password = give_password(guarded, own, other)
    credentials = guarded.credentials(own)
    if guarded.broker.engine == "amqtt":
        with pytest.raises(Refused) as caught:
            login(guarded, credentials, other, password)
        assert caught.value.code in NOT_AUTHORISED
        return
    with login(guarded, credentials, other, password) as peer:
        for device_id in (own, other):
            peer.subscribe(f"devices/{device_id}/#")
            peer.publish(f"devices/{device_id}/t", device_id.encode())
        assert peer.drain() == [(f"devices/{other}/t", other.encode())]


def test_password_that_was_taken_away(guarded: Door) -> None:
    device_id = guarded.new_id()
    (password,) = give_password(guarded, device_id)
    credentials = guarded.credentials(device_id)
    with login(guarded, credentials, device_id, password):
        pass
    remove_password(guarded.broker.directory / "passwords", device_id)
    guarded.broker.reload()
    with pytest.raises(Refused):
        login(guarded, credentials, device_id, password)
