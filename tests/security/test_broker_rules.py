"""Rules by group and by id, judged by what is delivered: the same for every engine and transport,
and while connections stand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from securemqtt.protocol.topics import covers
from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.rules import DENY, READ, WRITE, Rule, Rules, own_filter, own_prefix
from securemqtt_tools.broker.rules_file import write_rules
from support.brokers.doors import Door
from support.brokers.mqtt import Peer, Refused
from support.speed import seconds


class Ruled:
    """A broker's rules, changed while it runs."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._number = 0

    def set(self, groups: dict[str, set[str]], *lines: Rule) -> bool:
        """Put these rules in the place of those before; return True if that took a restart."""
        self._number += 1
        members = {group: frozenset(ids) for group, ids in groups.items()}
        write_rules(self._door.broker.directory, Rules(self._number, members, lines))
        BrokerConfig.open(self._door.broker.directory).save()
        return self._door.broker.reload()


@pytest.fixture
def ruled(door: Door) -> Iterator[Ruled]:
    made = Ruled(door)
    yield made
    made.set({})


def subscribe(peer: Peer, *topic_filters: str) -> None:
    """Ask for what may not be allowed, whatever SUBACK says."""
    for topic_filter in topic_filters:
        peer.subscribe(topic_filter)


def publish(peer: Peer, topic: str, payload: bytes, *, retain: bool = False) -> None:
    """Publish what may not be allowed; the broker may answer by closing the connection, too."""
    with suppress(Refused):
        peer.publish(topic, payload, retain=retain)


def arrived(peer: Peer, identity: str, least: int = 0) -> list[tuple[str, bytes]]:
    """Return what comes to a peer before what it now says to itself, and `least` messages if that
    are more: all that had been sent before. A ping would not do: HiveMQ may answer it first.
    """
    found: list[tuple[str, bytes]] = []
    topic = own_prefix(identity) + "/mark"
    peer.subscribe(topic)
    deadline = time.monotonic() + seconds(20)
    while True:
        mark = (topic, os.urandom(8).hex().encode())
        peer.publish(*mark)
        while (got := peer.receive()) != mark:
            found.append(got)
        if len(found) >= least:
            return found
        assert time.monotonic() < deadline, found


def test_a_group_reads_and_writes_what_its_rules_say(door: Door, ruled: Ruled) -> None:
    member, hub, other = (door.new_id(name) for name in ("member", "hub", "other"))
    topic = f"weather/{member}"
    ruled.set(
        {"greenhouse": {member}, "hubs": {hub}},
        Rule("greenhouse", True, READ, "weather/#"),
        Rule("hubs", True, WRITE, "weather/+"),
    )
    with door.enter(hub) as writer, door.enter(member) as reader, door.enter(other) as stranger:
        for peer in (reader, stranger, writer):
            subscribe(peer, topic, "weather/#", "#")
        publish(writer, topic, b"sun")
        assert reader.receive() == (topic, b"sun")
        for peer, identity in ((stranger, other), (writer, hub)):
            assert arrived(peer, identity) == []
        publish(stranger, topic, b"forged")
        publish(reader, topic, b"forged")
    with door.enter(member) as reader:
        subscribe(reader, topic)
        assert arrived(reader, member) == []


def test_what_is_denied_comes_by_no_filter(door: Door, ruled: Ruled) -> None:
    """Nor is it retained for somebody, nor written by an operator."""
    member, vault = door.new_id("member"), door.new_id("vault")
    open_, secret = f"weather/{member}/open", f"weather/{member}/secret"
    ruled.set(
        {"greenhouse": {member}},
        Rule("greenhouse", True, READ, f"weather/{member}/#"),
        Rule("controller", False, WRITE, f"weather/{member}/#"),
        Rule("greenhouse", True, DENY, secret),
        Rule("controller", False, DENY, f"devices/{vault}/#"),
    )
    with door.enter("controller") as writer, door.enter(vault) as target:
        publish(writer, open_, b"kept", retain=True)
        publish(writer, secret, b"kept", retain=True)
        with door.enter(member) as reader:
            subscribe(reader, f"weather/{member}/#", "weather/#", secret, f"weather/{member}/+")
            assert {topic for topic, _ in arrived(reader, member, 1)} == {open_}
            publish(writer, secret, b"now")
            publish(writer, open_, b"now")
            assert {topic for topic, _ in arrived(reader, member, 1)} == {open_}
        for topic in (open_, secret):
            publish(writer, topic, b"", retain=True)
        subscribe(target, f"devices/{vault}/#")
        subscribe(writer, f"devices/{vault}/#", "devices/#")
        publish(target, f"devices/{vault}/t", b"own")
        assert target.receive() == (f"devices/{vault}/t", b"own")
        found = arrived(writer, "controller")  # of others, too, whose messages were retained
        assert not any(covers(own_filter(vault), topic) for topic, _ in found)
        publish(writer, f"devices/{vault}/command/open", b"forged")
        assert arrived(target, vault) == []


def test_a_change_is_taken_up_while_connections_stand(door: Door, ruled: Ruled) -> None:
    """In both directions; where the broker has to be restarted for it, in the sessions that are
    kept.
    """
    member, hub = door.new_id("member"), door.new_id("hub")
    reader_credentials, writer_credentials = door.credentials(member), door.credentials(hub)
    topic = f"weather/{member}"
    reads, writes = Rule("greenhouse", True, READ, topic), Rule(hub, False, WRITE, topic)
    steps: list[tuple[dict[str, set[str]], tuple[Rule, ...], bool]] = [
        ({"greenhouse": {member}}, (writes,), False),
        ({"greenhouse": {member}}, (reads, writes), True),
        ({"greenhouse": set()}, (reads, writes), False),
        ({"greenhouse": {member}}, (reads, writes), True),
        ({"greenhouse": {member}}, (reads,), False),
        ({"greenhouse": {member}}, (reads, writes), True),
        ({"greenhouse": {member}}, (reads, writes, Rule(member, False, DENY, "weather/#")), False),
    ]
    ruled.set(*steps[1][:1], *steps[1][1])
    reader, writer = door.peer(reader_credentials), door.peer(writer_credentials)
    try:
        reader.connect(member, clean=False)
        subscribe(reader, topic)
        writer.connect(hub, clean=False)
        for number, (groups, lines, comes) in enumerate(steps):
            if ruled.set(groups, *lines):
                reader.drop(), writer.drop()
                reader, writer = door.peer(reader_credentials), door.peer(writer_credentials)
                assert reader.connect(member, clean=False) is True
                writer.connect(hub, clean=False)
            publish(writer, topic, b"%d" % number)
            assert arrived(reader, member) == ([(topic, b"%d" % number)] if comes else [])
    finally:
        reader.drop()
        writer.drop()


def test_the_will_of_a_revoked_device_goes_where_it_may_still_write(
    door: Door, ruled: Ruled
) -> None:
    """By the rules of that moment, not by those under which it connected."""
    for clean in (False, True):
        for still in (True, False):
            lost, hub = door.new_id("lost"), door.new_id("hub")
            topic = f"alarm/{lost}"
            reads, writes = Rule(hub, False, READ, topic), Rule(lost, False, WRITE, topic)
            ruled.set({}, reads, writes)
            hub_credentials = door.credentials(hub)
            with door.enter(hub, hub_credentials) as reader:
                subscribe(reader, topic)
                with door.peer(door.credentials(lost)) as peer:
                    peer.connect(lost, clean=clean, will=(topic, b"gone"))
                    door.authority.revoke(lost)
                    door.broker.config.refresh(door.authority)
                    lines = (reads, writes) if still else (reads,)
                    if ruled.set({}, *lines):
                        continue  # where it is restarted, all wills are those of its last rules
                    peer.wait_closed()
                assert arrived(reader, hub, least=still) == ([(topic, b"gone")] if still else [])
            with door.enter(hub, hub_credentials) as reader:
                subscribe(reader, topic)
                assert bool(arrived(reader, hub)) is still
