"""When a device gets a new certificate, and what its bundle is then called: rules without a
board.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.profiles import load_all
from securemqtt_tools.provision.board.library import board_sources, library_directory
from securemqtt_tools.provision.bundle import (
    Settings,
    anchor_files,
    config_text,
    identity_files,
    named_files,
)
from securemqtt_tools.provision.destination import parse_broker
from securemqtt_tools.provision.identity import Held, fault, refuse_mix_up

NOW = datetime(2027, 3, 1, tzinfo=timezone.utc)
SETTINGS = Settings("pump-1", "mqtt.local", 8883, keep_alive_s=30, ntp_host="pool.ntp.org")


@pytest.fixture
def clocked(tmp_path: Path) -> tuple[Authority, Callable[[timedelta], datetime]]:
    """Make an authority, and a function that moves its clock."""
    moment = [NOW]

    def later(by: timedelta) -> datetime:
        moment[0] += by
        return moment[0]

    return Authority.create(
        tmp_path / "ca", passphrase=None, intermediate=True, clock=lambda: moment[0]
    ), later


def test_a_certificate_is_kept_until_two_thirds_of_its_life(
    clocked: tuple[Authority, Callable[[timedelta], datetime]],
) -> None:
    authority, later = clocked
    held = Held(chain=authority.issue_device("pump-1", days=30).chain, key_fits=True)
    assert fault(held, authority, "pump-1", later(timedelta(days=19))) is None
    assert (
        fault(held, authority, "pump-1", later(timedelta(days=2))) == "its own ends on 2027-03-31"
    )
    assert fault(held, authority, "pump-1", later(timedelta(days=20))) == "its own is expired"


def test_what_makes_a_new_certificate_necessary(
    clocked: tuple[Authority, Callable[[timedelta], datetime]], authority: Authority
) -> None:
    ours, _ = clocked
    chain = ours.issue_device("pump-1").chain
    good = Held(chain=chain, key_fits=True)
    assert fault(good, ours, "pump-1", NOW) is None
    assert fault(Held(), ours, "pump-1", NOW) == "the device has none yet"
    assert fault(good, ours, "pump-2", NOW) == "the device has that of 'pump-1'"
    assert (
        fault(Held(chain=chain, key_fits=False), ours, "pump-1", NOW)
        == "its private key is missing or is another's"
    )
    assert (
        fault(Held(chain=chain[:1], key_fits=True), ours, "pump-1", NOW)
        == "its own is from another authority"
    )
    foreign = Held(chain=authority.issue_device("foreign-pump").chain, key_fits=True)
    assert fault(foreign, ours, "foreign-pump", NOW) == "its own is from another authority"
    ours.issue_device("pump-1", renew=True)
    assert fault(good, ours, "pump-1", NOW) == "its own is superseded"
    ours.revoke("pump-1")
    assert fault(good, ours, "pump-1", NOW) == "its own is revoked"


def test_an_id_is_one_device_s(clocked: tuple[Authority, Callable[[timedelta], datetime]]) -> None:
    authority, _ = clocked
    refuse_mix_up(Held(), authority, SETTINGS, NOW)
    authority.issue_device("pump-1")
    with pytest.raises(FatalError, match="not on this device"):
        refuse_mix_up(Held(), authority, SETTINGS, NOW)
    refuse_mix_up(Held(claimed_by="pump-1"), authority, SETTINGS, NOW)
    refuse_mix_up(Held(config={"client_id": "pump-1"}), authority, SETTINGS, NOW)
    with pytest.raises(FatalError, match="this device is 'pump-2'"):
        refuse_mix_up(
            Held(config={"client_id": "pump-2"}, claimed_by="pump-1"), authority, SETTINGS, NOW
        )


def test_a_new_identity_does_not_touch_the_files_in_use(
    clocked: tuple[Authority, Callable[[timedelta], datetime]], authority: Authority
) -> None:
    ours, _ = clocked
    first = identity_files(ours.issue_device("pump-1"), {}, der=True)
    assert first.names == {
        "certificate": ["device.der", "intermediate.der"],
        "key": "device.key.der",
    }
    in_use = {name: hashlib.sha256(content).hexdigest() for name, content in first.content.items()}
    second = identity_files(ours.issue_device("pump-1", renew=True), in_use, der=True)
    assert not second.content.keys() & in_use.keys()
    anchors = anchor_files(ours.trust_anchors(), {}, der=True)
    assert anchors.names == {"ca": ["ca.der"]}
    digest = hashlib.sha256(anchors.content["ca.der"]).hexdigest()
    assert anchor_files(ours.trust_anchors(), {"ca.der": "another's"}, der=True).names == {
        "ca": [f"ca-{digest[:8]}.der"]
    }
    assert anchor_files(ours.trust_anchors(), {"ca-x.der": digest}, der=True).names == {
        "ca": ["ca-x.der"]
    }


def test_a_key_shows_up_in_no_repr(
    clocked: tuple[Authority, Callable[[timedelta], datetime]],
) -> None:
    files = identity_files(clocked[0].issue_device("pump-1"), {}, der=True)
    assert "content" not in repr(files) and "\\x30" not in repr(files)


def test_config_json_keeps_what_the_user_put_there() -> None:
    names = {"ca": ["ca.der"], "certificate": ["device.der"], "key": "device.key.der"}
    text = config_text(SETTINGS, names, {}, 1000)
    assert text is not None
    config = json.loads(text)
    assert config == {
        "format": 1,
        "client_id": "pump-1",
        "host": "mqtt.local",
        "port": 8883,
        "ntp_host": "pool.ntp.org",
        "keep_alive_s": 30,
        "clock_floor": 1000,
        **names,
    }
    assert config_text(SETTINGS, names, config, 2000) is None
    changed = config_text(
        Settings("pump-1", "mqtt.local", 8884), names, {**config, "colour": "red"}, 2000
    )
    assert changed is not None
    assert json.loads(changed) == {**config, "colour": "red", "port": 8884, "clock_floor": 2000}
    other = config_text(
        Settings("pump-2", "mqtt.local", 8884), names, {**config, "colour": "red"}, 2000
    )
    assert other is not None and "colour" not in json.loads(other)


def test_the_durable_outbox_is_sized_by_the_boards_flash_unless_the_user_has_sized_it() -> None:
    sizes = {profile.key: profile.journal_bytes for profile in load_all() if profile.is_board}
    assert (sizes["pico_w"], sizes["esp32"]) == (53248, 131072)
    for size in sizes.values():
        text = config_text(SETTINGS, {}, {}, 1000, size)
        assert text is not None and json.loads(text)["outbox_journal_bytes"] == size
        assert (
            config_text(
                SETTINGS, {}, {**json.loads(text), "outbox_journal_bytes": 40960}, 2000, size
            )
            is None
        )


def test_only_files_of_the_bundle_itself_are_looked_at() -> None:
    config = {
        "ca": ["ca.der", "../boot.py"],
        "certificate": "device.der",
        "key": ["/etc/key", 7],
        "host": "h",
    }
    assert named_files(config) == ["ca.der", "device.der"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt.local", ("mqtt.local", None)),
        ("MQTT.local:8884", ("mqtt.local", 8884)),
        ("192.168.1.5:1", ("192.168.1.5", 1)),
        ("::1", ("::1", None)),
        ("[::1]:8884", ("::1", 8884)),
    ],
)
def test_the_broker_s_address(text: str, expected: tuple[str, int | None]) -> None:
    assert parse_broker(text) == expected


@pytest.mark.parametrize("text", ["", "host:", "host:x", "host:65536", ":8883", "a b", "host:1:2"])
def test_no_broker_s_address(text: str) -> None:
    with pytest.raises(FatalError):
        parse_broker(text)


def test_a_board_gets_every_module_but_those_for_cpython_alone() -> None:
    names = set(board_sources(library_directory()))
    everything = {
        f"securemqtt/{path.relative_to(library_directory()).as_posix()}"
        for path in library_directory().rglob("*.py")
    }
    assert {
        "securemqtt/client.py",
        "securemqtt/transport/umqtt.py",
        "securemqtt/platform/micropython.py",
    } <= names
    left_out = everything - names
    assert {"securemqtt/transport/paho.py", "securemqtt/platform/cpython.py"} <= left_out
    for name in names:
        source = (library_directory().parent / name).read_text()
        for module in ("paho", "threading", "ssl", "logging", "dataclasses", "pathlib"):
            assert (
                f"\nimport {module}\n" not in source and f"\nfrom {module} import" not in source
            ), name
