"""Networks that an identity has to come from, judged by CONNACK and by what is delivered: 127.0.0.1
and 127.0.0.2 are two computers here. For the brokers that can tell; what the others say is in
tests/tools/test_broker_network_command.py.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.config import PASSWORDS
from securemqtt_tools.broker.networks import Binding, parse_network
from securemqtt_tools.broker.passwords import set_password
from securemqtt_tools.broker.rules import READ, WRITE, Rule, Rules
from securemqtt_tools.broker.rules_file import read_rules, write_rules
from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.brokers.hivemq import hivemq_installed, require_hivemq
from support.brokers.mqtt import Peer, Refused, delivered
from support.identities.credentials import Credentials
from support.network.net import wait_until
from support.packets import PINGREQ, PINGRESP, packet

HERE, THERE, ELSEWHERE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
_HIVEMQ = [pytest.mark.xdist_group("hivemq"), pytest.mark.brokers]
_NOT_AUTHORISED = 5
every_door = pytest.mark.parametrize(
    "door",
    [
        ("amqtt", False),
        ("amqtt", True),
        *(pytest.param(("hivemq", one), marks=_HIVEMQ) for one in (False, True)),
    ],
    ids=["amqtt-tls", "amqtt-wss", "hivemq-tls", "hivemq-wss"],
    indirect=True,
)


def bind(
    door: Door,
    networks: dict[str, list[str]],
    groups: dict[str, set[str]] | None = None,
    lines: tuple[Rule, ...] = (),
) -> None:
    """Put these networks, and groups and rules, in the place of those before."""
    members = {group: frozenset(ids) for group, ids in (groups or {}).items()}
    number = read_rules(door.broker.directory).number + 1
    bindings = tuple(
        Binding(who, who in members, parse_network(one))
        for who, texts in networks.items()
        for one in texts
    )
    write_rules(door.broker.directory, Rules(number, members, lines, bindings))
    assert door.broker.reload() is False


@contextmanager
def coming_from(address: str) -> Iterator[None]:
    """Have whoever connects now do so from an address of this computer."""
    with pytest.MonkeyPatch.context() as patch:
        original = partial(socket.create_connection, source_address=(address, 0))
        patch.setattr(socket, "create_connection", original)
        yield


def enter(door: Door, identity: str, address: str, credentials: Credentials | None = None) -> Peer:
    """Connect as a device from an address."""
    with coming_from(address):
        return door.enter(identity, credentials)


def is_refused(door: Door, identity: str, address: str, credentials: Credentials) -> bool:
    """Return True if CONNACK refuses a device, False if it lets it in."""
    try:
        enter(door, identity, address, credentials).drop()
    except Refused as refused:
        assert refused.code == _NOT_AUTHORISED
        return True
    return False


def alive(peer: Peer) -> None:
    """Fail unless the broker answers on this connection."""
    peer.ask(packet(PINGREQ), PINGRESP)


@pytest.fixture
def unbound(door: Door) -> Iterator[Door]:
    yield door
    bind(door, {})


@every_door
def test_a_device_comes_from_its_networks_alone(unbound: Door) -> None:
    door = unbound
    bound, other = door.new_id("bound"), door.new_id("other")
    credentials = door.credentials(bound)
    bind(door, {bound: ["192.0.2.0/24", f"{THERE}/32", "2001:db8::/32"]})
    begin = len(door.broker.log.read_text())
    assert is_refused(door, bound, HERE, credentials)
    refusal = re.compile(
        rf"^.*refused:? {bound} from {HERE} with certificate ([0-9A-Fa-f]+): it comes from another "
        rf"network$",
        re.MULTILINE,
    )
    wait_until(
        lambda: refusal.search(door.broker.log.read_text()[begin:]), what="a line of the log"
    )
    said = door.broker.log.read_text()[begin:]
    assert len(refusal.findall(said)) == 1, said
    found = refusal.search(said)
    assert found is not None
    (entry,) = door.authority.inventory.entries(subject=bound)
    assert int(found[1], 16) == int(entry.serial, 16)
    topic = f"devices/{bound}/t"
    with enter(door, bound, THERE, credentials) as peer, door.enter(other) as anybody:
        peer.subscribe(topic)
        peer.publish(topic, b"here")
        assert peer.receive() == (topic, b"here")
        alive(anybody)


@every_door
def test_of_several_groups_any_will_do_and_its_own_come_first(unbound: Door) -> None:
    door = unbound
    member = door.new_id("member")
    credentials = door.credentials(member)
    groups = {f"{member}-a": {member}, f"{member}-b": {member}, f"{member}-c": set[str]()}
    of_groups = {f"{member}-a": [f"{THERE}/32"], f"{member}-b": [f"{ELSEWHERE}/32"]}
    of_groups[f"{member}-c"] = [f"{HERE}/32"]

    def admitted() -> list[str]:
        addresses = (HERE, THERE, ELSEWHERE)
        return [one for one in addresses if not is_refused(door, member, one, credentials)]

    bind(door, of_groups, groups)
    assert admitted() == [THERE, ELSEWHERE]
    bind(door, {**of_groups, member: [f"{HERE}/32"]}, groups)
    assert admitted() == [HERE]
    bind(door, {member: [f"{HERE}/32"]}, groups)
    assert admitted() == [HERE]
    bind(door, {}, groups)
    assert admitted() == [HERE, THERE, ELSEWHERE]


@every_door
def test_who_is_elsewhere_when_it_changes_is_put_out_and_others_stand(unbound: Door) -> None:
    """Nor does anything come to it any more, or from it."""
    door = unbound
    member, same, hub = (door.new_id(one) for one in ("member", "same", "hub"))
    credentials = door.credentials(member)
    topic = f"weather/{member}"
    groups = {f"{member}-a": {member, same}}
    lines = (
        Rule(f"{member}-a", True, READ, topic),
        Rule(f"{member}-a", True, WRITE, topic),
        Rule(hub, False, READ, topic),
        Rule(hub, False, WRITE, topic),
    )
    bind(door, {}, groups, lines)
    with coming_from(HERE):
        peer = door.peer(credentials)
    peer.connect(member, clean=False)
    with peer, enter(door, same, THERE) as standing, door.enter(hub) as writer:
        for one in (peer, standing, writer):
            one.subscribe(topic)
        bind(door, {f"{member}-a": [f"{THERE}/32"]}, groups, lines)
        peer.wait_closed()
        writer.publish(topic, b"secret")
        assert standing.receive() == (topic, b"secret")
        assert delivered(writer, writer, topic) == [b"secret"]
        assert is_refused(door, member, HERE, credentials)
        with coming_from(THERE), door.peer(credentials) as back:
            assert back.connect(member, clean=False) is True
            assert back.receive() == (topic, b"secret")  # it has waited, and for nobody else
        bind(door, {}, groups, lines)
        assert not is_refused(door, member, HERE, credentials)
        alive(standing)
        alive(writer)


@every_door
def test_one_from_elsewhere_ends_no_session_and_leaves_no_will(unbound: Door) -> None:
    """A stolen certificate is worth nothing there."""
    door = unbound
    device = door.new_id("device")
    credentials = door.credentials(device)
    will = (f"devices/{device}/will", b"of a thief")
    bind(door, {device: [f"{THERE}/32"]})
    with enter(door, device, THERE, credentials) as peer, door.enter("watcher") as watcher:
        watcher.subscribe(f"devices/{device}/#")
        refused = pytest.raises(Refused, match="CONNACK 5")
        with coming_from(HERE), door.peer(credentials) as thief, refused:
            thief.connect(device, will=will)
        alive(peer)
        assert delivered(watcher, peer, f"devices/{device}/t") == []


def test_one_from_elsewhere_learns_nothing_of_a_password(
    authority: Authority, tmp_path: Path
) -> None:
    with open_door(authority, tmp_path, "amqtt", passwords=True) as door:
        device = door.new_id("device")
        credentials = door.credentials(device)
        password = set_password(door.broker.directory / PASSWORDS, device)
        bind(door, {device: [f"{THERE}/32"]})  # which has the broker read the password, too
        for one in (password, "wrong"):
            refused = pytest.raises(Refused, match="CONNACK 5")
            with coming_from(HERE), door.peer(credentials) as peer, refused:
                peer.connect(device, username=device, password=one)
        with coming_from(THERE), door.peer(credentials) as peer:
            peer.connect(device, username=device, password=password)


def by_both_protocols(door: Door) -> None:
    """Enter a broker that listens on all addresses by IPv4 and IPv6."""
    device, other = door.new_id("device"), door.new_id("other")
    credentials = door.credentials(device)
    bind(door, {device: [f"{HERE}/32"], other: ["::/0"]})
    assert not is_refused(door, device, HERE, credentials)
    assert is_refused(door, device, THERE, credentials)
    said = f"{device} from {THERE} with"
    wait_until(lambda: said in door.broker.log.read_text(), what=said)
    assert is_refused(door, other, HERE, door.credentials(other))
    bind(door, {device: ["::ffff:127.0.0.2/128"]})
    assert not is_refused(door, device, THERE, credentials)
    assert is_refused(door, device, HERE, credentials)


def test_an_address_of_ipv4_is_one_where_it_comes_as_ipv6(
    authority: Authority, tmp_path: Path
) -> None:
    """As it does where a broker listens by both."""
    names = ["localhost", "127.0.0.1", "mqtt.example"]
    BrokerConfig.create(tmp_path / "broker", authority, names=names, port=0)
    with BrokerProcess(tmp_path / "broker", engine="amqtt") as broker:
        by_both_protocols(Door(broker, authority, tmp_path))


@pytest.mark.xdist_group("hivemq")
@pytest.mark.brokers
def test_so_it_is_with_hivemq(authority: Authority, tmp_path: Path) -> None:
    require_hivemq()
    config = BrokerConfig.create(
        tmp_path / "broker", authority, names=["localhost", "127.0.0.1"], port=0, bind="::"
    )
    with hivemq_installed(), BrokerProcess(config.directory, engine="hivemq") as broker:
        by_both_protocols(Door(broker, authority, tmp_path))
