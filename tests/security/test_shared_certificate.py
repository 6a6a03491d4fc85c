"""One certificate for several devices, with a password for each, judged by CONNACK and by what is
delivered. The embedded broker holds the user name to the certificate; Mosquitto cannot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from securemqtt_tools.broker.config import LOG, PASSWORDS
from securemqtt_tools.broker.passwords import remove_password, set_password
from securemqtt_tools.broker.rules import READ, WRITE, Rule, Rules
from securemqtt_tools.broker.rules_file import change, read_rules
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.profiles import SHARED
from support.brokers.doors import Door, open_door
from support.brokers.mqtt import Peer, Refused, delivered
from support.identities.credentials import Credentials, issued_credentials
from support.network.net import wait_until
from support.packets import PINGREQ, PINGRESP, packet
from support.requirements import require_program
from support.speed import seconds

_NOT_AUTHORISED = {4, 5}
_MORE_BY_RULE = "weather/now"


class Group:
    """The devices of a group that share a certificate, and a controller with one of its own."""

    def __init__(self, door: Door, count: int = 2) -> None:
        self.door = door
        self.name = door.new_id("lamps")
        self.ids = [door.new_id("lamp") for _ in range(count)]
        issued = door.authority.issue_shared(self.name)
        self.credentials = issued_credentials(door.directory, issued)
        self.passwords = {one: self.new_password(one) for one in self.ids}
        self.controller = door.credentials("controller")
        self.passwords["controller"] = self.new_password("controller")
        more = Rule(self.name, True, READ, _MORE_BY_RULE)
        self.change(lambda rules: rules.with_shared(self.name, self.ids).with_lines(more))

    def change(self, edit: Callable[[Rules], Rules]) -> None:
        """Change the rules, and have the broker take them up."""
        change(self.door.authority, self.door.broker.directory, edit)
        self.door.update()

    def new_password(self, identity: str) -> str:
        """Return a new password, which counts from the next reload on."""
        return set_password(self.door.broker.directory / PASSWORDS, identity)

    def login(
        self,
        username: str | None,
        password: str | None = None,
        credentials: Credentials | None = None,
    ) -> Peer:
        """Connect by the certificate that is shared, or another, with the password of the user
        name, or another.
        """
        peer = self.door.peer(credentials or self.credentials)
        try:
            given = password or self.passwords.get(username or "")
            peer.connect(username or "lamp", username=username, password=given)
        except BaseException:
            peer.drop()
            raise
        return peer

    def refuses(self, username: str | None, password: str | None = None) -> None:
        """Fail unless CONNACK says that the one who shows the certificate may not come in."""
        with pytest.raises(Refused) as caught:
            self.login(username, password).drop()
        assert caught.value.code in _NOT_AUTHORISED


def alive(peer: Peer) -> None:
    """Fail unless the broker answers on this connection."""
    peer.ask(packet(PINGREQ), PINGRESP)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make one of these tests' own: its groups and rules are no other test's."""
    return Authority.create(tmp_path_factory.mktemp("shared") / "ca", passphrase=None)


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
    directory = tmp_path_factory.mktemp("door")
    with open_door(authority, directory, engine, websockets, passwords=True) as opened:
        yield opened


@pytest.fixture
def group(guarded: Door) -> Group:
    return Group(guarded)


def is_embedded(door: Door) -> bool:
    return door.broker.engine == "amqtt"


def test_each_is_itself_and_has_what_the_group_has(group: Group) -> None:
    one, other = group.ids
    with (
        group.login(one) as first,
        group.login(other) as second,
        group.login("controller", credentials=group.controller) as controller,
    ):
        for peer in (first, second):
            peer.subscribe("#")
            for each in group.ids:
                peer.subscribe(f"devices/{each}/#")
            peer.subscribe(_MORE_BY_RULE)
        controller.subscribe("devices/#")
        for each, peer in zip(group.ids, (first, second), strict=True):
            command = f"devices/{each}/command/on"
            controller.publish(command, each.encode())
            assert peer.receive() == (command, each.encode())
            # Mosquitto 2.1 sends a copy for each of the filters that it fits (MQTT-3.3.5-1).
            assert {topic for topic, _ in peer.drain()} <= {command}
        assert controller.drain()
        # Each writes in its own prefix, and not in the other's, nor in one of the group's name.
        for topic in (f"devices/{other}/t", f"devices/{group.name}/t", _MORE_BY_RULE):
            first.publish(topic, b"forged")
        assert b"forged" not in delivered(controller, first, f"devices/{one}/t")
        assert first.drain() and second.drain() == []


def test_a_rule_of_the_groups_is_for_each(group: Group) -> None:
    writes = Rule("controller", False, WRITE, _MORE_BY_RULE)
    group.change(lambda rules: rules.with_lines(writes))
    first, second = map(group.login, group.ids)
    with first, second, group.login("controller", credentials=group.controller) as controller:
        for peer in (first, second):
            peer.subscribe(_MORE_BY_RULE)
        controller.publish(_MORE_BY_RULE, b"rain")
        assert first.receive() == second.receive() == (_MORE_BY_RULE, b"rain")


def test_who_is_refused(group: Group) -> None:
    one, other = group.ids
    group.refuses(one, "wrong")
    group.refuses(one, group.passwords[other])
    group.refuses(None)
    group.refuses(group.name, group.passwords[one])
    group.refuses(group.door.new_id("nobody"), group.passwords[one])


def test_the_certificate_is_no_way_in_for_others(group: Group) -> None:
    """For whom it is not meant. On Mosquitto, who has the password of one has come in as that one:
    the reason why the embedded broker, or none of this, is better.
    """
    door = group.door
    member, stranger, own = (door.new_id(name) for name in ("member", "stranger", "own"))
    for one in (member, stranger, own):
        group.passwords[one] = group.new_password(one)
    # A member of the group, for which the certificate is not meant: it may have one of its own.
    group.change(lambda rules: rules.with_members(group.name, [member], ()))
    # And one that was meant, and has got one of its own since, which no rule has noticed.
    credentials = door.credentials(own)
    group.change(lambda rules: rules.with_shared(group.name, [own]))
    for one in (member, stranger, own):
        if is_embedded(door):
            group.refuses(one)
        else:
            group.login(one).drop()
    with group.login(own, credentials=credentials) as peer, group.login(group.ids[0]) as first:
        alive(peer)
        alive(first)
    # Nor is one's own certificate a way in as one of those that share.
    if is_embedded(door):
        with pytest.raises(Refused):
            group.login(group.ids[0], credentials=credentials).drop()


def test_who_leaves_the_group_is_out(group: Group) -> None:
    one, other = group.ids
    with group.login(one) as first, group.login(other) as second:
        group.change(lambda rules: rules.with_members(group.name, (), [one]))
        if is_embedded(group.door):
            first.wait_closed()
            group.refuses(one)
        elif not group.door.restarts_for_revocation:  # where the password alone counts
            alive(first)
        if not group.door.restarts_for_revocation:
            alive(second)
    if not is_embedded(group.door):
        group.login(one).drop()
    assert read_rules(group.door.broker.directory).shared[group.name] == {other}


def test_a_password_that_is_taken_away_puts_out_that_one_alone(group: Group) -> None:
    """The other stays connected: Mosquitto, too, looks at the passwords of all at a reload."""
    one, other = group.ids
    with group.login(one) as first, group.login(other) as second:
        remove_password(group.door.broker.directory / PASSWORDS, one)
        group.door.broker.reload()
        first.wait_closed()
        if not group.door.restarts_for_revocation:
            alive(second)
    group.refuses(one)
    group.login(other).drop()


def test_a_password_that_is_replaced_puts_out_who_has_the_old_one(group: Group) -> None:
    one, _ = group.ids
    with group.login(one) as first:
        new = group.new_password(one)
        group.door.broker.reload()
        first.wait_closed()
    group.refuses(one)
    group.login(one, new).drop()


def test_revoking_it_puts_out_all(group: Group) -> None:
    bystanders = Group(group.door)
    with group.login(group.ids[0]) as first, group.login(group.ids[1]) as second:
        group.door.revoke(group.name)
        first.wait_closed()
        second.wait_closed()
    for one in group.ids:
        with pytest.raises(Refused):
            group.login(one).drop()
    bystanders.login(bystanders.ids[0]).drop()


def test_what_a_stranger_says_to_be_does_not_fill_the_log(group: Group) -> None:
    """Seventy of 65,535 bytes, each of them written as four, were all that the audit log reads."""
    log = group.door.broker.directory / LOG
    before = log.stat().st_size
    for name in ("x" * 65_535, "\x01" * 65_535, "\U0001f600" * 16_000):
        for password in ("wrong", "\x01" * 65_535):
            for credentials in (group.credentials, group.controller):
                with pytest.raises(Refused):
                    group.login(name, password, credentials).drop()
    if is_embedded(group.door):
        wait_until(
            lambda: log.read_bytes()[before:].count(b"is none of those") == 6,
            seconds(20),
            "the refusals in the log",
        )
    assert max(map(len, log.read_bytes()[before:].splitlines(True))) < 2000


def test_a_broker_without_passwords_lets_nobody_be_one_of_them(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("door")
    with open_door(authority, directory, "amqtt") as door:
        issued = door.authority.issue_shared(door.new_id("lamps"))
        credentials = issued_credentials(directory, issued)
        change(
            authority,
            door.broker.directory,
            lambda rules: rules.with_shared(issued.subject, ["lamp-a"]),
        )
        door.update()
        for name in ("lamp-a", issued.subject):
            with pytest.raises(Refused), door.peer(credentials) as peer:
                peer.connect(name, username=name, password="x")


def test_the_audit_log_says_what_it_does_not_prove(
    group: Group, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    door, (one, other) = group.door, group.ids
    # A home with this authority and this broker.
    home = tmp_path_factory.mktemp("home")
    (home / "ca").symlink_to(door.authority.directory)
    (home / "broker").symlink_to(door.broker.directory)
    command = ["broker", "audit-log", "--home", str(home), "--last", "5000"]

    def told(*options: str) -> tuple[list[dict[str, object]], str]:
        capsys.readouterr()
        assert main([*command, "--json", *options]) == 0
        printed = capsys.readouterr()
        return [json.loads(line) for line in printed.out.splitlines()], printed.err

    for each in group.ids:
        group.login(each).drop()
    wait_until(
        lambda: {row["id"] for row in told()[0] if row["event"] == "connected"} >= {*group.ids},
        seconds(20),
        "that both have come in",
    )
    for each in group.ids:
        rows, notes = told("--id", each)
        (row,) = [one for one in rows if one["event"] == "connected"]
        assert row["breaches"] == []
        expected = []
        if is_embedded(door):
            (entry,) = door.authority.inventory.entries(SHARED, group.name)
            assert row["serial"] == entry.serial
            expected = [
                f"by the certificate that {group.name} shares: which device it was, its password "
                f"alone says"
            ]
        assert row["notes"] == expected
        assert (
            f"Note: {one}, {other} share the certificate of {group.name}: which of them it was, "
            f"the password alone says, and this log proves nothing.\n"
        ) in notes
    capsys.readouterr()
    assert main([*command, "--id", one]) == 0
    assert f"Note: {one}, {other} share the certificate" in capsys.readouterr().out
    if is_embedded(door):
        group.refuses("somebody")
        wait_until(
            lambda: any(
                "'somebody' is none of those who" in str(row["reason"]) for row in told()[0]
            ),
            seconds(20),
            "the refusal in the log",
        )
