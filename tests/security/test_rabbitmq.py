"""RabbitMQ under our rules, judged by what is delivered: by MQTT over TLS, and in WebSockets.

What it cannot do has a test of its own, so that docs/rabbitmq.md says what is true.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from securemqtt import Client
from securemqtt_tools.broker.rabbitmq import control
from securemqtt_tools.broker.rabbitmq.definitions import user_definitions
from securemqtt_tools.broker.rabbitmq.engine import RabbitMQ
from securemqtt_tools.broker.rabbitmq.settings import erlang_string
from securemqtt_tools.broker.rules import DENY, READ, WRITE, Rule, Rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from support.brokers.mqtt import Peer, Refused
from support.brokers.rabbitmq import (
    Node,
    again_and_again,
    require_rabbitmq,
    running_rabbitmq,
)
from support.identities.bundles import write_bundle
from support.identities.credentials import (
    client_certificate,
    issued_credentials,
    namesake_of,
)
from support.network.net import wait_until
from support.packets import PUBACK, publish
from support.speed import seconds

_numbers = itertools.count()
_FINAL_S = seconds(20)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            one, marks=[pytest.mark.xdist_group(f"rabbitmq-{one}"), pytest.mark.brokers], id=one
        )
        for one in ("tls", "wss")
    ],
)
def node(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """Run a RabbitMQ for the tests of a module, entered by each transport."""
    require_rabbitmq()
    directory = tmp_path_factory.mktemp("rabbitmq")
    with running_rabbitmq(authority, directory, request.param == "wss") as running:
        yield running


@pytest.fixture
def ruled(node: Node) -> Iterator[Node]:
    """The same, without rules again after the test."""
    yield node
    node.rule({})


def names(*begins: str) -> list[str]:
    """Return ids that no other test has."""
    return [f"{one}-{next(_numbers)}" for one in begins]


def is_closed(peer: Peer) -> bool:
    """Return True if the broker has ended a connection."""
    try:
        peer.drain()
    except Refused:
        return True
    return False


def wait_until_closed(peer: Peer) -> None:
    wait_until(lambda: is_closed(peer), seconds(20), "the end of the connection")


def attempt(peer: Peer, topic: str, payload: bytes) -> None:
    """Publish what may not be allowed: then RabbitMQ ends the connection."""
    with suppress(Refused):
        peer.publish(topic, payload)


def refused_filter(node: Node, device_id: str, credentials: object, topic_filter: str) -> bool:
    """Return True if a subscription is not to be had."""
    with node.enter(device_id, credentials) as peer:  # type: ignore[arg-type]
        try:
            peer.subscribe(topic_filter)
        except Refused:
            return True
    return False


def control_program(node: Node, *arguments: str) -> str:
    """Return what rabbitmqctl says."""
    engine = node.broker._engine
    assert isinstance(engine, RabbitMQ)
    done = subprocess.run(
        [engine.program.control, "--quiet", *arguments],
        env=engine.environment(node.config),
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=True,
    )
    return done.stdout


def users(node: Node) -> set[str]:
    listed = control_program(node, "list_users", "--no-table-headers")
    return {line.split("\t")[0] for line in listed.splitlines()}


def subscriptions(node: Node, device_id: str) -> int:
    """Return how many filters a device's session has."""
    queue = f'<<"mqtt-subscription-{device_id}qos1">>'
    found = f'rabbit_binding:list_for_destination(rabbit_misc:r(<<"/">>, queue, {queue}))'
    text = f'length([One || One <- {found}, element(4, element(2, One)) =:= <<"amq.topic">>]).'
    return int(control_program(node, "eval", text))


def test_the_five_lines(node: Node, tmp_path: Path) -> None:
    """Our own Client publishes with each QoS, and is commanded, also with QoS 2."""
    (device,) = names("device")
    (operator,) = node.devices("controller")
    settings = {"transport": "wss"} if node.websockets else {}
    bundle = write_bundle(tmp_path / "bundle", node.authority, device, port=node.port, **settings)
    node.update()
    commands: list[bytes] = []
    with node.enter("controller", operator) as controller, Client(bundle) as client:
        controller.subscribe(f"devices/{device}/#")
        client.subscribe("~/command/#", lambda message: commands.append(message.payload))
        for qos in (0, 1, 2):
            sent = client.publish("~/reading", b"%d" % qos, qos=qos)
            if qos:
                wait_until(lambda sent=sent: (client.wait(0.01), sent.acknowledged)[1], _FINAL_S)
        readings: list[bytes] = []
        while len(readings) < 3:  # beside its status, of which it may come before the SUBSCRIBE
            topic, payload = controller.receive()
            assert topic in (f"devices/{device}/reading", f"devices/{device}/status")
            readings += [payload] * topic.endswith("/reading")
        assert readings == [b"0", b"1", b"2"]
        controller.publish(f"devices/{device}/command/go", b"1")
        controller.send(publish(f"devices/{device}/command/go", b"2", 2, 77))
        assert controller.wait_for(PUBACK).packet_id == 77  # and no PUBREC
        wait_until(lambda: (client.wait(0.01), len(commands) == 2)[1], _FINAL_S)
        assert commands == [b"1", b"2"]


def test_own_prefix_only(node: Node) -> None:
    """To read and to write, whatever RabbitMQ makes of dots, stars and lines."""
    mine, other = names("mine", "other")
    my_credentials, other_credentials = node.devices(mine, other)
    with node.enter(other, other_credentials) as victim:
        victim.subscribe(f"devices/{other}/#")
        for topic in (
            f"devices/{other}/t",
            f"devices.{other}.t",
            f"devices/{other}",
            f"devices/{other}/t\ndevices/{mine}/t",
            f"devices/{mine}x/t",
            f"x/devices/{mine}/t",
            "$SYS/broker",
        ):
            with node.enter(mine, my_credentials) as peer:
                attempt(peer, topic, b"forged")
                wait_until_closed(peer)
        assert victim.drain() == []
    for topic_filter in (
        *("#", "devices/#", "+/#", "*/*/t", "devices/+/t", "devices/*/t", f"devices/#/{mine}/t"),
        *(f"devices/{other}/#", f"devices/{other}", f"devices/{mine}+/t", "$SYS/#"),
    ):
        assert refused_filter(node, mine, my_credentials, topic_filter), topic_filter
    with node.enter(mine, my_credentials) as peer:
        for topic_filter in (f"devices/{mine}/#", f"devices/{mine}/+/x", f"devices/{mine}"):
            assert peer.subscribe(topic_filter) == 1
        peer.publish(f"devices/{mine}/t", b"1")
        assert peer.receive() == (f"devices/{mine}/t", b"1")


def test_retained_for_a_topic_and_not_for_a_wildcard(node: Node) -> None:
    """The second is what RabbitMQ lacks."""
    (device,) = names("device")
    (credentials,) = node.devices(device)
    topic = f"devices/{device}/state"
    with node.enter(device, credentials) as peer:
        peer.publish(topic, b"on", retain=True)
        peer.subscribe(topic)
        assert (topic, b"on") in peer.drain()
    with node.enter(device, credentials) as peer:
        peer.subscribe(f"devices/{device}/#")
        assert peer.drain() == []
        peer.publish(topic, b"", retain=True)


def test_will(node: Node) -> None:
    """It is published where the device may, and nowhere else."""
    device, other = names("device", "other")
    credentials, other_credentials = node.devices(device, other)
    with node.enter(other, other_credentials) as victim, node.enter(device, credentials) as own:
        victim.subscribe(f"devices/{other}/#")
        own.subscribe(f"devices/{device}/#")
        node.enter(other, other_credentials, will=(f"devices/{other}/gone", b"1")).drop()
    with node.enter(other, other_credentials) as victim:
        victim.subscribe(f"devices/{other}/#")
        node.enter(device, credentials, will=(f"devices/{other}/gone", b"forged")).drop()
        victim.publish(f"devices/{other}/last", b"")
        assert victim.receive() == (f"devices/{other}/last", b"")
        assert victim.drain() == []


def test_will_arrives(node: Node) -> None:
    (device,) = names("device")
    operator, credentials = node.devices("controller", device)
    with node.enter("controller", operator) as controller:
        controller.subscribe(f"devices/{device}/#")
        node.enter(device, credentials, will=(f"devices/{device}/gone", b"1")).drop()
        assert controller.receive() == (f"devices/{device}/gone", b"1")


def test_a_revoked_device_has_no_last_word(node: Node) -> None:
    """RabbitMQ asks what a user may who is no more; so what is retained goes on saying "online"."""
    (device,) = names("device")
    operator, credentials = node.devices("controller", device)
    status = f"devices/{device}/status"
    with node.enter("controller", operator) as controller:
        controller.subscribe(status)
        with node.enter(device, credentials, will=(status, b"offline")) as peer:
            peer.publish(status, b"online", retain=True)
            node.authority.revoke(device)
            node.update()
            wait_until_closed(peer)
    with node.enter("controller", operator) as controller:
        controller.subscribe(status)
        assert controller.receive() == (status, b"online")
        assert controller.drain() == []


def test_kept_session(node: Node) -> None:
    """What came while a device was away waits for it, over a restart of the broker, too."""
    (device,) = names("device")
    operator, credentials = node.devices("controller", device)
    topic = f"devices/{device}/command/x"
    with node.enter(device, credentials, clean=False) as peer:
        peer.subscribe(topic)
    with node.enter("controller", operator) as controller:
        controller.publish(topic, b"1")
    node.stop()
    node.start()
    with node.enter("controller", operator) as controller:
        controller.publish(topic, b"2")
    with node.peer(credentials) as peer:
        assert peer.connect(device, clean=False) is True
        assert [peer.receive() for _ in range(2)] == [(topic, b"1"), (topic, b"2")]


def test_rules_by_group(ruled: Node) -> None:
    member, hub, other = names("member", "hub", "other")
    topic = f"weather/{member}"
    reader_c, writer_c, stranger_c = ruled.devices(member, hub, other)
    ruled.rule(
        {"greenhouse": {member}, "hubs": {hub}},
        Rule("greenhouse", True, READ, "weather/#"),
        Rule("hubs", True, WRITE, "weather/+"),
    )
    for topic_filter in (topic, "weather/#", "weather/+", "#"):
        assert refused_filter(ruled, other, stranger_c, topic_filter)
        assert refused_filter(ruled, hub, writer_c, topic_filter)
    with ruled.enter(hub, writer_c) as writer, ruled.enter(member, reader_c) as reader:
        reader.subscribe("weather/#")
        writer.publish(topic, b"sun")
        assert reader.receive() == (topic, b"sun")
        with ruled.enter(other, stranger_c) as stranger:
            attempt(stranger, topic, b"forged")
        attempt(writer, "weather/a/b", b"forged")
        assert reader.drain() == []


def test_what_is_denied_comes_by_no_filter(ruled: Node) -> None:
    """A filter of which a part is denied is refused as a whole: the rest of it does not come
    either.
    """
    member, vault = names("member", "vault")
    base = f"weather/{member}"
    member_c, vault_c, operator = ruled.devices(member, vault, "controller")
    ruled.rule(
        {"greenhouse": {member}},
        Rule("greenhouse", True, READ, f"{base}/#"),
        Rule("controller", False, WRITE, f"{base}/#"),
        Rule("greenhouse", True, DENY, f"{base}/secret"),
        Rule("controller", False, DENY, f"devices/{vault}/#"),
    )
    for topic_filter in ("#", "+/#", f"{base}/#", f"{base}/+", f"{base}/*", f"{base}/secret"):
        assert refused_filter(ruled, member, member_c, topic_filter), topic_filter
    for topic_filter in ("devices/#", f"devices/{vault}/t", "devices/+/t"):
        assert refused_filter(ruled, "controller", operator, topic_filter), topic_filter
    with ruled.enter(vault, vault_c) as target, ruled.enter(member, member_c) as reader:
        target.subscribe(f"devices/{vault}/#")
        reader.subscribe(f"{base}/open")
        with ruled.enter("controller", operator) as writer:
            writer.publish(f"{base}/secret", b"1")
            writer.publish(f"{base}/open", b"1")
            assert reader.receive() == (f"{base}/open", b"1")
            attempt(writer, f"devices/{vault}/command/open", b"forged")
        assert target.drain() == []


def test_a_change_while_connections_stand(ruled: Node) -> None:
    """What is allowed counts at once. Who loses something is disconnected, with the subscriptions
    that he has no right to any more; all others stay.
    """
    member, hub, other = names("member", "hub", "other")
    topic = f"weather/{member}"
    reader_c, writer_c, other_c = ruled.devices(member, hub, other)
    reads, writes = Rule("greenhouse", True, READ, topic), Rule(hub, False, WRITE, topic)
    with (
        ruled.enter(member, reader_c, clean=False) as reader,
        ruled.enter(hub, writer_c) as writer,
        ruled.enter(other, other_c) as bystander,
    ):
        ruled.rule({"greenhouse": {member}}, reads, writes)
        reader.subscribe(topic)
        writer.publish(topic, b"1")
        assert reader.receive() == (topic, b"1")
        ruled.rule({"greenhouse": set()}, reads, writes)
        assert is_closed(reader)
        assert not is_closed(writer)
        with ruled.peer(reader_c) as again:
            assert again.connect(member, clean=False) is True
            writer.publish(topic, b"2")
            assert again.drain() == []
            ruled.rule({"greenhouse": {member}}, reads, writes)
            again.subscribe(topic)  # which has to be said again
            writer.publish(topic, b"3")
            assert again.receive() == (topic, b"3")
            ruled.rule({"greenhouse": {member}}, reads)
            assert is_closed(writer)
            with ruled.enter(hub, writer_c) as writer_again:
                attempt(writer_again, topic, b"forged")
            assert again.drain() == []
        assert not is_closed(bystander)


def test_a_change_while_the_broker_is_down(ruled: Node) -> None:
    """A session that is kept brings nothing that is not allowed any more."""
    member, hub = names("member", "hub")
    topic = f"weather/{member}"
    reader_c, writer_c = ruled.devices(member, hub)
    reads, writes = Rule(member, False, READ, topic), Rule(hub, False, WRITE, topic)
    ruled.rule({}, reads, writes)
    with ruled.enter(member, reader_c, clean=False) as reader:
        reader.subscribe(topic)
    ruled.stop()
    ruled.rule({}, writes, take_up=False)
    ruled.start()
    with ruled.peer(reader_c) as reader, ruled.enter(hub, writer_c) as writer:
        assert reader.connect(member, clean=False) is True
        writer.publish(topic, b"1")
        assert reader.drain() == []


def test_nothing_of_before_is_delivered_while_the_broker_starts(ruled: Node) -> None:
    """Who may read no more comes in as soon as a port is open."""
    member, hub = names("member", "hub")
    topic = f"weather/{member}"
    reader_c, writer_c = ruled.devices(member, hub)
    reads, writes = Rule(member, False, READ, topic), Rule(hub, False, WRITE, topic)
    ruled.rule({}, reads, writes)
    with ruled.enter(member, reader_c, clean=False) as reader:
        reader.subscribe(topic)
    ruled.stop()
    ruled.rule({}, writes, take_up=False)
    done, received = Event(), []

    def look() -> None:
        with ruled.peer(reader_c) as reader, ruled.enter(hub, writer_c) as writer:
            reader.connect(member, clean=False)
            while not done.is_set():
                writer.publish(topic, b"1")
                received.append(reader.drain())

    def come_in() -> None:
        while not done.is_set():
            with suppress(Refused, OSError):
                look()

    thread = Thread(target=come_in, daemon=True)
    thread.start()
    try:
        ruled.start()
        wait_until(lambda: bool(received), seconds(20))
    finally:
        done.set()
        thread.join(seconds(20))
    assert received == [[]] * len(received)


def test_who_subscribes_again_and_again_loses_it_all_the_same(ruled: Node) -> None:
    """Also while the right is being taken, from a session that is kept."""
    member, hub = names("member", "hub")
    topic = f"weather/{member}"
    reader_c, writer_c = ruled.devices(member, hub)
    reads, writes = Rule(member, False, READ, topic), Rule(hub, False, WRITE, topic)
    kept = []
    for _ in range(3):
        ruled.rule({}, reads, writes)
        peer = ruled.enter(member, reader_c, clean=False)
        peer.subscribe(topic)
        with again_and_again(peer, topic):
            ruled.rule({}, writes)
        kept.append(subscriptions(ruled, member))
        with ruled.enter(hub, writer_c) as writer, ruled.peer(reader_c) as reader:
            assert reader.connect(member, clean=False) is True
            writer.publish(topic, b"1")
            assert reader.drain() == []
    assert kept == [0, 0, 0]


def test_who_reads_nothing_is_out_as_well(ruled: Node) -> None:
    """Though RabbitMQ waits for him to take what it has sent."""
    member, hub = names("member", "hub")
    topic = f"weather/{member}"
    reader_c, writer_c = ruled.devices(member, hub)
    reads, writes = Rule(member, False, READ, topic), Rule(hub, False, WRITE, topic)
    ruled.rule({}, reads, writes)
    with ruled.enter(member, reader_c) as reader, ruled.enter(hub, writer_c) as writer:
        reader.subscribe(topic, qos=0)
        for _ in range(30):
            writer.publish(topic, b"x" * 900_000)
        ruled.rule({}, writes)
        wait_until_closed(reader)
        assert not is_closed(writer)


def test_a_denial_with_a_dot_reaches_who_is_subscribed(ruled: Node) -> None:
    """a/b.c is a topic of a/+ in MQTT, and none for RabbitMQ."""
    member, hub = names("member", "hub")
    reader_c, writer_c = ruled.devices(member, hub)
    rules = (
        Rule(member, False, READ, f"{member}/#"),
        Rule(hub, False, WRITE, f"{member}/#"),
        Rule(member, False, DENY, f"{member}/+"),
    )
    ruled.rule({}, *rules)
    with ruled.enter(member, reader_c, clean=False) as reader:
        reader.subscribe(f"{member}/b/c")
        ruled.rule({}, *rules, Rule(member, False, DENY, f"{member}/b.c"))
        assert is_closed(reader)
    with ruled.peer(reader_c) as reader, ruled.enter(hub, writer_c) as writer:
        assert reader.connect(member, clean=False) is True
        writer.publish(f"{member}/b.c", b"denied")
        assert reader.drain() == []


def test_who_has_no_topic_permission_may_do_nothing(node: Node, tmp_path: Path) -> None:
    """As everybody has none for a moment, while the import is under way or he is deleted: RabbitMQ
    itself would let him do everything.
    """
    (device,) = names("device")
    credentials = issued_credentials(node.directory, node.authority.issue_device(device))
    half = json.loads(user_definitions({device: Rules().access(device)}))
    del half["topic_permissions"]
    path = tmp_path / "half.json"
    path.write_text(json.dumps(half))
    text = f"{{ok, Text}} = file:read_file({erlang_string(str(path))}), "
    done = control_program(node, "eval", f"{text} rabbit_definitions:import_raw(Text).")
    assert done.strip() == "ok"
    with pytest.raises(Refused):
        node.enter(device, credentials)
    node.update()
    for action in (lambda p: p.subscribe("devices/#"), lambda p: p.publish("a/b", b"forged")):
        with node.enter(device, credentials) as peer:
            control_program(node, "clear_topic_permissions", device)
            with pytest.raises(Refused):
                action(peer)
        node.authority.revoke(device)
        node.update()
        (credentials,) = node.devices(device)


@pytest.mark.parametrize("at", ["ok = {module}:put_out", "{unbind}"])
def test_what_failed_halfway_is_done_by_the_next_one(
    ruled: Node, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """And it is said. The first place is after the import, the second one after connections are
    closed.
    """
    member, hub, gone, new, other = names("member", "hub", "gone", "new", "other")
    topic = f"weather/{member}"
    reader_c, _, gone_c, other_c = ruled.devices(member, hub, gone, other)
    reads, writes = Rule(member, False, READ, topic), Rule(hub, False, WRITE, topic)
    ruled.rule({}, reads, writes)
    standing = {member: reader_c, gone: gone_c, other: other_c}
    peers = {one: ruled.enter(one, c, clean=False) for one, c in standing.items()}
    for one, peer in peers.items():
        peer.subscribe(topic if one == member else f"devices/{one}/#")
    with monkeypatch.context() as broken:
        program = control._HOLD
        assert program.count(at) == 1
        broken.setattr(control, "_HOLD", program.replace(at, f"error(halfway), {at}"))
        # who has lost a right and gets it back, who has got one and loses it, and who is known and
        # forgotten, before the next one
        ruled.rule({}, writes, Rule(other, False, READ, topic), take_up=False)
        ruled.authority.revoke(gone)
        with pytest.raises(FatalError, match=r"has not taken up what has changed: .*halfway"):
            ruled.devices(new)
    for one in peers.values():
        one.drop()
    assert {member, hub, new, other} <= users(ruled)
    ruled.authority.revoke(new)
    with ruled.enter(other, other_c, clean=False) as peer:
        peer.subscribe(topic)
        ruled.rule({}, writes, take_up=False)
        ruled.update()
        assert is_closed(peer)
    assert users(ruled) & {member, hub, gone, new, other} == {member, hub, other}
    assert [subscriptions(ruled, one) for one in (member, gone, other)] == [0, 0, 1]
    with ruled.enter(member, reader_c), pytest.raises(Refused):
        ruled.enter(gone, gone_c)


def test_revocation(node: Node) -> None:
    """The live session ends, a new connection is refused, one that was open without a CONNECT too,
    and nobody else notices; a newer certificate enters.
    """
    thief, *others = names("thief", "other", "other")
    thief_c, *others_c = node.devices(thief, *others)
    stay = [node.enter(one, c) for one, c in zip(others, others_c, strict=True)]
    with node.enter(thief, thief_c) as live, node.peer(thief_c) as half_open:
        node.authority.revoke(thief)
        node.update()
        assert is_closed(live)
        with pytest.raises(Refused):
            half_open.connect(thief)
    with pytest.raises(Refused):
        node.enter(thief, thief_c)
    (newer,) = node.devices(thief)
    with node.enter(thief, newer) as live:
        node.authority.revoke(thief)
        (newest,) = node.devices(thief)  # so its user stays
        assert is_closed(live)
    with node.enter(thief, newest):
        pass
    for credentials in (thief_c, newer):
        with pytest.raises(Refused):
            node.enter(thief, credentials)
    assert [one for one in stay if is_closed(one)] == []
    for one in stay:
        one.drop()


def test_a_message_that_is_too_large_goes_nowhere(node: Node) -> None:
    """RabbitMQ acknowledges nothing more on that connection, which it does not end either."""
    (device,) = names("device")
    operator, credentials = node.devices("controller", device)
    topic = f"devices/{device}/t"
    large = b"x" * (node.config.limits.packet_bytes + 1)
    with node.enter("controller", operator) as controller, node.enter(device, credentials) as peer:
        controller.subscribe(f"devices/{device}/#")
        peer.send(publish(topic, large, 1, 98) + publish(topic, b"next", 1, 99))
        assert peer.drain() == []
        with pytest.raises(Refused), node.enter(device, credentials):  # and ends it by a takeover
            while True:
                assert peer.receive_packet().kind != PUBACK
        with node.enter(device, credentials) as again:
            again.publish(topic, b"1")
        assert controller.receive() == (topic, b"1")


def test_takeover_by_the_same_id(node: Node) -> None:
    (device,) = names("device")
    (credentials,) = node.devices(device)
    with node.enter(device, credentials) as first, node.enter(device, credentials) as second:
        wait_until_closed(first)
        second.publish(f"devices/{device}/t", b"1")


def test_another_id_is_not_claimed(node: Node) -> None:
    """Nor is its connection ended, nor its session taken or deleted."""
    mine, other = names("mine", "other")
    my_credentials, other_credentials = node.devices(mine, other)
    with node.enter(other, other_credentials, clean=False) as victim:
        victim.subscribe(f"devices/{other}/#")
        for claimed in (other, "", "new"):
            for clean in (True, False):
                with pytest.raises(Refused):
                    node.enter(claimed, my_credentials, clean=clean)
        with pytest.raises(Refused), node.peer(my_credentials) as peer:
            peer.connect(mine, username=other)
        for password in ("", "guest"):
            with pytest.raises(Refused), node.peer(my_credentials) as peer:
                peer.connect(other, username=other, password=password)
        victim.publish(f"devices/{other}/t", b"1")
        assert victim.receive() == (f"devices/{other}/t", b"1")


def test_who_has_no_good_certificate_is_refused(node: Node) -> None:
    (device,) = names("device")
    foreign = client_certificate(node.directory, namesake_of(node.authority), [device])
    for credentials in (None, foreign):
        with pytest.raises(Refused):
            node.enter(device, credentials)  # type: ignore[arg-type]
    with pytest.raises(Refused), node.peer(None) as peer:
        peer.connect("guest", username="guest", password="guest")


def test_there_is_no_user_but_the_devices(node: Node) -> None:
    """And nothing that another user of this computer could read."""
    known = {one.subject for one in node.authority.inventory.entries() if one.role == "device"}
    assert users(node) <= known
    assert (node.config.directory / "rabbitmq").stat().st_mode & 0o77 == 0


def test_a_rule_with_a_dot_gives_nothing(ruled: Node) -> None:
    """RabbitMQ could not tell it from one with a /."""
    (device,) = names("device")
    (credentials,) = ruled.devices(device)
    ruled.rule({}, Rule(device, False, READ, "weather.de/x"))
    for topic_filter in ("weather.de/x", "weather/de/x"):
        assert refused_filter(ruled, device, credentials, topic_filter)
    assert ruled.broker.shortcomings() == [
        f"RabbitMQ takes a dot for a /, and * for +: the rule that {device} may read weather.de/x "
        f"gives nothing"
    ]
