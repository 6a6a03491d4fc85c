"""What an identity may do once it is in: the same for every engine and transport.

Judged by what is delivered.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from securemqtt_tools.broker import BrokerConfig
from support.brokers.doors import Door
from support.brokers.mqtt import Peer, Refused, delivered
from support.identities.credentials import client_certificate, signer_of


def try_publish(peer: Peer, topic: str, payload: bytes, *, retain: bool = False) -> None:
    """Publish; the broker may answer by closing the connection, too."""
    with suppress(Refused):
        peer.publish(topic, payload, retain=retain)


def test_publish_to_the_topic_of_another(door: Door) -> None:
    victim, attacker = door.new_id("victim"), door.new_id("attacker")
    with (
        door.enter(victim) as target,
        door.enter(attacker) as peer,
        door.enter("controller") as controller,
    ):
        target.subscribe(f"devices/{victim}/#")
        controller.subscribe("devices/#")
        for topic in (
            f"devices/{victim}/t",
            f"devices/{victim}",
            f"devices/{victim}/command/x",
            "devices",
            "t",
            "/",
        ):
            try_publish(peer, topic, b"forged")
        assert delivered(target, target, f"devices/{victim}/t") == []
        assert b"forged" not in delivered(controller, target, f"devices/{victim}/t")


def test_subscribe_to_the_topic_of_another(door: Door) -> None:
    victim, spy = door.new_id("victim"), door.new_id("spy")
    own, secret = f"devices/{victim}/#", f"devices/{victim}/t"
    with door.enter(victim) as target, door.enter(spy) as peer:
        for spied in (
            own,
            secret,
            "#",
            "devices/#",
            "devices/+/t",
            f"+/{victim}/t",
            "+/+/+",
            "+/#",
        ):
            peer.subscribe(spied)
        peer.subscribe(f"devices/{spy}/#")
        target.publish(secret, b"secret")
        assert b"secret" not in delivered(peer, peer, f"devices/{spy}/t")


def test_retained_message_of_another(door: Door) -> None:
    victim, spy = door.new_id("victim"), door.new_id("spy")
    with door.enter(victim) as target:
        target.publish(f"devices/{victim}/status", b"secret", retain=True)
    with door.enter("controller") as controller:
        controller.subscribe(f"devices/{victim}/#")
        assert controller.receive() == (f"devices/{victim}/status", b"secret")
        peer = door.enter(spy)
    with peer:
        peer.subscribe(f"devices/{victim}/#")
        peer.subscribe("#")
        peer.subscribe(f"devices/{spy}/#")
        assert b"secret" not in delivered(peer, peer, f"devices/{spy}/t")


def test_retained_message_is_not_planted_on_another(door: Door) -> None:
    victim, attacker = door.new_id("victim"), door.new_id("attacker")
    with door.enter(attacker) as peer:
        try_publish(peer, f"devices/{victim}/command/x", b"forged", retain=True)
    with door.enter(victim) as target:
        target.subscribe(f"devices/{victim}/#")
        assert delivered(target, target, f"devices/{victim}/t") == []


def test_will_on_the_topic_of_another(door: Door) -> None:
    victim, attacker = door.new_id("victim"), door.new_id("attacker")
    with door.enter(victim) as target, door.enter("controller") as controller:
        target.subscribe(f"devices/{victim}/#")
        for one in (victim, attacker):
            controller.subscribe(f"devices/{one}/farewell")
        for will_of in (victim, attacker):  # the second one is allowed, and shows that wills arrive
            peer = door.peer(door.credentials(attacker))
            with suppress(Refused):
                peer.connect(attacker, will=(f"devices/{will_of}/farewell", b"died"))
            peer.drop()
        assert controller.receive() == (f"devices/{attacker}/farewell", b"died")
        assert delivered(target, target, f"devices/{victim}/t") == []
    with door.enter(victim) as target:
        target.subscribe(f"devices/{victim}/#")  # nor was it retained
        assert delivered(target, target, f"devices/{victim}/t") == []


@pytest.mark.parametrize("clean", [False, True], ids=["kept session", "clean session"])
def test_a_revoked_device_is_offline(door: Door, clean: bool) -> None:
    """For who listens at that moment, and by what is retained; its last word is its will, where it
    may write that.
    """
    lost, other = door.new_id("lost"), door.new_id("other")
    status = f"devices/{lost}/status"
    with door.enter("watcher") as watcher, door.enter(other) as victim:
        watcher.subscribe(status)
        victim.subscribe(f"devices/{other}/#")
        with door.peer(door.credentials(lost)) as peer:
            peer.connect(lost, clean=clean, will=(status, b"offline"))
            peer.publish(status, b"online", retain=True)
            assert watcher.receive() == (status, b"online")
            door.revoke(lost)
            peer.wait_closed()
        if not door.restarts_for_revocation:
            assert watcher.receive() == (status, b"offline")
            assert delivered(victim, victim, f"devices/{other}/t") == []
    with door.enter("watcher") as watcher:
        watcher.subscribe(status)
        assert watcher.receive() == (status, b"offline")


def test_operator(door: Door) -> None:
    device_id = door.new_id()
    with door.enter(device_id) as device, door.enter("controller") as controller:
        device.subscribe(f"devices/{device_id}/#")
        controller.subscribe(f"devices/{device_id}/#")
        device.publish(f"devices/{device_id}/t", b"21")
        assert controller.receive() == (f"devices/{device_id}/t", b"21")
        try_publish(controller, f"devices/{device_id}/t", b"forged")
        controller.publish(f"devices/{device_id}/command/led", b"on")
        got = [device.receive(), device.receive()]
        assert got == [
            (f"devices/{device_id}/t", b"21"),
            (f"devices/{device_id}/command/led", b"on"),
        ]


def test_monitor_reads_only(door: Door) -> None:
    device_id = door.new_id()
    with door.enter(device_id) as device, door.enter("watcher") as watcher:
        device.subscribe(f"devices/{device_id}/#")
        try_publish(watcher, f"devices/{device_id}/command/led", b"forged")
        assert delivered(device, device, f"devices/{device_id}/t") == []
        watcher.subscribe(f"devices/{device_id}/#")
        device.publish(f"devices/{device_id}/t", b"21")
        assert watcher.receive() == (f"devices/{device_id}/t", b"21")


def test_role_is_granted_and_taken_away_by_reload(door: Door) -> None:
    """Whoever loses a role gets nothing any more, not even by a subscription made while it
    lasted.
    """
    device_id, promoted = door.new_id(), door.new_id("promoted")
    credentials, device_credentials = door.credentials(promoted), door.credentials(device_id)
    before = BrokerConfig.open(door.broker.directory)
    try:
        before.changed(roles={**before.roles, promoted: "operator"})
        door.broker.reload()
        with (
            door.enter(device_id, device_credentials) as device,
            door.peer(credentials) as operator,
        ):
            operator.connect(promoted, clean=False)
            operator.subscribe(f"devices/{device_id}/#")
            device.publish(f"devices/{device_id}/t", b"seen")
            assert operator.receive() == (f"devices/{device_id}/t", b"seen")
    finally:
        before.save()
        door.broker.reload()
    with door.enter(device_id, device_credentials) as device, door.peer(credentials) as former:
        assert former.connect(promoted, clean=False) is True
        former.subscribe(f"devices/{promoted}/#")
        device.publish(f"devices/{device_id}/t", b"unseen")
        assert delivered(former, former, f"devices/{promoted}/t") == []


@pytest.mark.parametrize("name", ["+", "#", "../victim", " "])
def test_common_name_that_is_no_id_reaches_nothing(door: Door, name: str) -> None:
    """Our authority issues no such certificate; were there one, it would be good for nothing."""
    victim = door.new_id("victim")
    credentials = client_certificate(door.directory, signer_of(door.authority), [name])
    with door.enter(victim) as target:
        target.subscribe(f"devices/{victim}/#")
        with suppress(Refused), door.enter(name, credentials) as peer:
            peer.subscribe("#")
            peer.subscribe("devices/#")
            peer.publish(f"devices/{victim}/t", b"forged")
            target.publish(f"devices/{victim}/t", b"secret")
            assert peer.drain() == []
        assert b"forged" not in delivered(target, target, f"devices/{victim}/t")
