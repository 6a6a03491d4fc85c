"""The broker's settings and the files that follow from them."""

from __future__ import annotations

import json
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.health import warnings
from securemqtt_tools.broker.mosquitto.program import Places, render
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority, files
from securemqtt_tools.pki.files import locked
from securemqtt_tools.pki.layout import renew_intermediate

NAMES = ["localhost", "127.0.0.1"]


@pytest.fixture
def config(tmp_path: Path, authority: Authority) -> BrokerConfig:
    return BrokerConfig.create(
        tmp_path / "broker", authority, names=NAMES, roles={"boss": "operator"}
    )


def places(config: BrokerConfig) -> Places:
    return Places(
        config.directory, config.directory / "data", config.directory / "broker.log", None
    )


def test_what_is_created_can_be_opened(config: BrokerConfig) -> None:
    assert BrokerConfig.open(config.directory) == config


def test_secrets_are_for_their_owner_only(config: BrokerConfig) -> None:
    for name in ("server.pem", "passwords", "acl", "broker.json"):
        assert stat.S_IMODE((config.directory / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(config.directory.stat().st_mode) == 0o700


def test_listens_on_loopback_only_when_its_names_are(tmp_path: Path, authority: Authority) -> None:
    assert BrokerConfig.create(tmp_path / "a", authority, names=NAMES).bind == "127.0.0.1"
    assert (
        BrokerConfig.create(tmp_path / "b", authority, names=["mqtt.local", "localhost"]).bind == ""
    )
    assert BrokerConfig.create(tmp_path / "c", authority, names=["::1"]).bind == "::1"
    with pytest.raises(FatalError, match=r"leave out 127\.0\.0\.1 or ::1"):
        BrokerConfig.create(tmp_path / "d", authority, names=["127.0.0.1", "::1"])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="run securemqtt broker init"):
        BrokerConfig.open(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 2, "names": 3}', "\xff"]
)
def test_damaged_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "broker.json").write_text(content, encoding="latin-1")
    with pytest.raises(FatalError, match=r"broker\.json is damaged .*init --force"):
        BrokerConfig.open(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("port", "x"), ("roles", []), ("limits", {"x": 1}), ("bind", []), ("x", 1)]
)
def test_damaged_settings(config: BrokerConfig, key: str, value: object) -> None:
    file = config.directory / "broker.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(FatalError, match=r"damaged|no IP address"):
        BrokerConfig.open(config.directory)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"port": 70000}, "70000"),
        ({"websockets_port": 8883}, "different ports"),
        ({"bind": "mqtt.local"}, "no IP address"),
        ({"roles": {"a/b": "operator"}}, "no device id"),
        ({"roles": {"a": "king"}}, "no role"),
        ({"directory": Path("/tmp/a\nlistener 1883")}, "line break"),
    ],
)
def test_settings_that_cannot_be_meant(
    config: BrokerConfig, change: dict[str, object], complaint: str
) -> None:
    with pytest.raises(FatalError, match=complaint):
        replace(config, **change).check()


def test_refresh_needs_the_key_only_when_something_is_to_be_signed(tmp_path: Path) -> None:
    secret = b"correct horse battery"
    BrokerConfig.create(
        tmp_path / "broker", Authority.create(tmp_path / "ca", passphrase=secret), names=NAMES
    )
    asked = []

    def ask() -> bytes:
        asked.append(True)
        return secret

    authority = Authority.open(tmp_path / "ca", ask)
    config = BrokerConfig.open(tmp_path / "broker").refresh(authority)
    assert asked == []
    Authority.open(tmp_path / "ca", secret).issue_device("lost")
    authority.revoke("lost")
    config = config.refresh(authority)
    assert asked == [True]
    assert len(config.crl()) == 1
    assert shut_out(config) == ["CN=lost"]


def test_trust_for_websockets_needs_no_key_and_changes_only_with_what_is_revoked(
    tmp_path: Path,
) -> None:
    """So a start that can ask nobody for a passphrase keeps out who was revoked, too."""
    secret = b"correct horse battery"
    unlocked = Authority.create(tmp_path / "ca", passphrase=secret)
    config = BrokerConfig.create(tmp_path / "broker", unlocked, names=NAMES)
    assert shut_out(config) == []
    before = (config.directory / "ca.websockets.pem").read_bytes()
    for device_id in ("lost", "Found"):
        unlocked.issue_device(device_id)
        unlocked.revoke(device_id)
    unlocked.crl_pem()
    locked = Authority.open(tmp_path / "ca", lambda: pytest.fail("asked for the passphrase"))
    assert shut_out(config.refresh(locked)) == ["CN=Found", "CN=lost"]
    after = (config.directory / "ca.websockets.pem").read_bytes()
    assert after != before
    config.refresh(locked)
    assert (config.directory / "ca.websockets.pem").read_bytes() == after


def shut_out(config: BrokerConfig) -> list[str]:
    """Return the subjects that are good for nothing over WebSockets before Mosquitto 2.1."""
    anchor = x509.load_pem_x509_certificate((config.directory / "ca.websockets.pem").read_bytes())
    try:
        constraints = anchor.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return []
    return [one.value.rfc4514_string() for one in constraints.excluded_subtrees or []]


def test_refresh_renews_what_is_old(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    config = BrokerConfig.create(tmp_path / "broker", authority, names=NAMES)
    serial, number = config.server_certificate().serial_number, crl_number(config)
    now = authority.now
    for days, renewed in ((825 / 3 - 2, False), (825 / 3 + 2, True)):
        later = Authority.open(tmp_path / "ca", clock=lambda days=days: now + timedelta(days))
        config.refresh(later)
        assert (config.server_certificate().serial_number != serial) == renewed
    assert crl_number(config) == number
    much_later = Authority.open(tmp_path / "ca", clock=lambda: now + timedelta(days=8 * 365))
    config.refresh(much_later)
    assert crl_number(config) > number


def test_a_server_whose_certificate_was_revoked_gets_another_key(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    config = BrokerConfig.create(tmp_path / "broker", authority, names=NAMES)
    stolen = config.server_certificate()
    authority.revoke("localhost", role="server", reason="keyCompromise")
    config.refresh(authority)
    assert config.server_certificate().public_key() != stolen.public_key()
    kept = config.server_certificate()
    config.refresh(authority)
    assert config.server_certificate() == kept


def test_a_renewed_intermediate_is_shown_from_the_next_reload_on(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=None, intermediate=True)
    config = BrokerConfig.create(tmp_path / "broker", authority, names=NAMES)
    server = config.directory / "server.pem"
    before = server.read_bytes()
    config.refresh(authority)
    assert server.read_bytes() == before
    later = authority.now + timedelta(days=2)
    renewed = renew_intermediate(authority.directory, None, None, later)
    config.refresh(Authority.open(authority.directory, clock=lambda: later))
    shown = x509.load_pem_x509_certificates(server.read_bytes())
    assert shown[1:] == [renewed]
    kept = server.read_bytes()
    config.refresh(Authority.open(authority.directory, clock=lambda: later))
    assert server.read_bytes() == kept


def crl_number(config: BrokerConfig) -> int:
    return config.crl().extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_health(config: BrokerConfig) -> None:
    certificate = config.server_certificate()
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    half = begin + (end - begin) / 2
    assert warnings(config, half - timedelta(days=1)) == []
    (early,) = warnings(config, half + timedelta(days=1))
    assert "its certificate runs out on" in early
    (warning,) = warnings(config, end - timedelta(days=10))
    assert "its certificate runs out on" in warning
    for moment, complaint in (
        (end + timedelta(seconds=1), "run out"),
        (begin - timedelta(days=1), "clock"),
    ):
        with pytest.raises(FatalError, match=complaint):
            warnings(config, moment)
    (line,) = warnings(config, end + timedelta(seconds=1), only_crl_counts=True)
    assert "its certificate has run out" in line  # and a revocation gets through
    with pytest.raises(FatalError, match="its CRL has run out"):
        warnings(config, end + timedelta(days=3650), only_crl_counts=True)


def test_mosquitto_2_0(config: BrokerConfig) -> None:
    lines = render(config, places(config), (2, 0, 11)).splitlines()
    listener = lines[lines.index("listener 8883 127.0.0.1") :]
    assert {
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "tls_version tlsv1.2",
        f"crlfile {config.directory}/crl.pem",
    } <= set(listener)
    assert {"allow_anonymous false", f"acl_file {config.directory}/acl", "persistence true"} <= set(
        lines
    )
    assert not any(
        line.startswith(("per_listener_settings", "password_file", "plugin")) for line in lines
    )
    (ciphers,) = [line.split()[1] for line in listener if line.startswith("ciphers ")]
    for cipher in ciphers.split(":"):
        assert cipher.startswith("ECDHE-")
        assert "GCM" in cipher or "POLY1305" in cipher


def test_mosquitto_2_0_with_websockets_has_one_set_of_rules_and_a_trust_of_their_own(
    config: BrokerConfig,
) -> None:
    text = render(replace(config, websockets_port=8884), places(config), (2, 0, 21))
    everyone, tls, websockets = text.split("listener ")
    assert "per_listener_settings" not in text
    assert f"acl_file {config.directory}/acl\n" in everyone
    assert "allow_anonymous false" in everyone
    assert f"cafile {config.directory}/ca.pem\n" in tls
    assert f"cafile {config.directory}/ca.websockets.pem\n" in websockets


@pytest.mark.parametrize(
    "place", ["lib", f"lib/{sys.implementation._multiarch}/mosquitto"], ids=["built", "debian"]
)
def test_mosquitto_2_1_gets_no_deprecated_option(
    config: BrokerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    prefix = tmp_path / "prefix"
    (prefix / "sbin").mkdir(parents=True)
    (prefix / place).mkdir(parents=True)
    for name in ("mosquitto_acl_file.so", "mosquitto_password_file.so"):
        (prefix / place / name).touch()
    program = prefix / "sbin" / "mosquitto"
    program.write_text("#!/bin/sh\necho mosquitto version 2.1.2\n")
    program.chmod(0o755)
    monkeypatch.setenv("SECUREMQTT_MOSQUITTO", str(program))
    text = render(replace(config, websockets_port=8884, passwords=True), places(config), (2, 1, 2))
    for deprecated in ("acl_file ", "password_file ", "per_listener_settings"):
        assert not any(line.startswith(deprecated) for line in text.splitlines())
    assert (
        f"plugin {prefix}/{place}/mosquitto_acl_file.so\n"
        f"plugin_opt_acl_file {config.directory}/acl\n" in text
    )
    assert f"plugin {prefix}/{place}/mosquitto_password_file.so\n" in text
    assert "use_identity_as_username false" in text


def test_who_changed_nothing_of_it_brings_no_older_role_back(config: BrokerConfig) -> None:
    """Each of these has read the settings before another process changes them."""
    BrokerConfig.open(config.directory).with_role("boss", None)
    config.follow_rules()
    assert BrokerConfig.open(config.directory).roles == {}
    config.changed(save_interval_s=61)
    config.with_role("hub", "monitor")
    now = BrokerConfig.open(config.directory)
    assert (now.roles, now.save_interval_s) == ({"hub": "monitor"}, 61)
    assert "boss" not in (config.directory / "acl").read_text(encoding="utf-8")


def test_a_refresh_brings_no_older_role_back(config: BrokerConfig, authority: Authority) -> None:
    BrokerConfig.open(config.directory).with_role("boss", None)
    assert config.refresh(authority).roles == BrokerConfig.open(config.directory).roles == {}


def test_a_broker_that_is_set_up_anew_has_the_roles_of_when_it_is_written(
    config: BrokerConfig, tmp_path: Path
) -> None:
    """Signing its certificate may wait for a passphrase, while another process changes them."""

    def while_it_is_set_up() -> bytes:
        config.with_role("boss", None).with_role("hub", "monitor")
        return b"correct horse battery"

    Authority.create(tmp_path / "ca", passphrase=b"correct horse battery")
    made = BrokerConfig.create(
        config.directory,
        Authority.open(tmp_path / "ca", while_it_is_set_up),
        names=NAMES,
        roles={"pump": "operator"},
        keep_roles=True,
    )
    assert made.roles == {"hub": "monitor", "pump": "operator"}
    assert BrokerConfig.open(config.directory) == made


def test_of_many_that_change_the_settings_at_once_none_is_lost(config: BrokerConfig) -> None:
    ids = [f"d{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for each in pool.map(lambda name: config.with_role(name, "monitor"), ids):
            assert each.roles["boss"] == "operator"
    assert BrokerConfig.open(config.directory).roles.keys() == {"boss", *ids}
    acl = (config.directory / "acl").read_text(encoding="utf-8")
    assert all(f"user {one}\n" in acl for one in ids)


def test_a_lock_that_is_held_is_waited_for_no_longer_than_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    monkeypatch.setattr(files, "_PATIENCE_S", 0.1)
    with (
        locked(path),
        pytest.raises(FatalError, match="another command has kept"),
        locked(path),
    ):
        pass
    with locked(path):
        pass


def test_a_lock_is_no_way_to_another_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (tmp_path / ".file.lock").symlink_to(other)
    with pytest.raises(FatalError, match="cannot lock"), locked(tmp_path / "file"):
        pass
    assert not other.exists()
