"""What HiveMQ CE is given: found in words, written once, and as Java reads it."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography.x509 import SubjectKeyIdentifier

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.ciphers import TLS12_CIPHERS
from securemqtt_tools.broker.hivemq.access import write_access
from securemqtt_tools.broker.hivemq.build import SOURCES
from securemqtt_tools.broker.hivemq.configuration import iana_name, render
from securemqtt_tools.broker.hivemq.program import find_hivemq
from securemqtt_tools.broker.hivemq.stores import KEYSTORE, TRUSTSTORE, write_stores
from securemqtt_tools.broker.networks import Binding, parse_network
from securemqtt_tools.broker.rules import DENY, READ, WRITE, Rule, Rules
from securemqtt_tools.broker.rules_file import write_rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.names import serial_text
from support.requirements import require_program
from support.speed import seconds


@pytest.fixture
def config(authority: Authority, tmp_path: Path) -> BrokerConfig:
    """Set up a broker."""
    return BrokerConfig.create(
        tmp_path / "broker",
        authority,
        names=["localhost"],
        port=28883,
        websockets_port=28884,
        roles={"hub": "operator"},
    )


def test_the_extension_is_short() -> None:
    """It is the only Java here, and at most 400 lines of it."""
    lines = [line for path in SOURCES.glob("*.java") for line in path.read_text().splitlines()]
    assert 0 < len(lines) <= 400
    assert max(map(len, lines)) <= 100


def test_a_home_without_hivemq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIVEMQ_HOME", raising=False)
    assert find_hivemq() is None
    for home in (str(tmp_path), ""):
        monkeypatch.setenv("HIVEMQ_HOME", home)
        with pytest.raises(FatalError, match="HIVEMQ_HOME names no HiveMQ"):
            find_hivemq()


def test_a_home_without_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    with zipfile.ZipFile(tmp_path / "bin" / "hivemq.jar", "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "HiveMQ-Version: 2025.5\r\n")
    monkeypatch.setenv("HIVEMQ_HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(FatalError, match="JAVA_HOME: apt-get install default-jdk-headless"):
        find_hivemq()
    java = tmp_path / "bin" / "java"
    java.touch(0o755)
    found = find_hivemq()
    assert found is not None
    assert (found.java, found.version_text) == (java, "2025.5")


def test_what_is_no_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(0o755)
    (tmp_path / "bin" / "hivemq.jar").write_text("a page that says 404")
    monkeypatch.setenv("HIVEMQ_HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(FatalError, match="is no HiveMQ"):
        find_hivemq()


def test_the_access_file_says_it_all(
    config: BrokerConfig, authority: Authority, tmp_path: Path
) -> None:
    serial = authority.issue_device("files-gone", renew=True).certificate.serial_number
    authority.revoke("files-gone")
    config.refresh(authority)
    lines = (
        Rule("greenhouse", True, READ, "weather/#"),
        Rule("pump", False, WRITE, "alarm now/+"),
        Rule("pump", False, DENY, "alarm now/x"),
    )
    networks = (
        Binding("greenhouse", True, parse_network("192.0.2.0/24")),
        Binding("lamp", False, parse_network("2001:db8::/32")),
        Binding("lamp", False, parse_network("0.0.0.0/0")),
    )
    groups = {"greenhouse": frozenset({"pump", "fan"})}
    write_rules(config.directory, Rules(1, groups, lines, networks))
    path = tmp_path / "access"
    assert write_access(path, config) == 1
    assert path.stat().st_mode & 0o077 == 0
    said = path.read_text()
    assert f"revoked {serial:x}\n" in said
    assert serial_text(serial).lower().lstrip("0") == f"{serial:x}"
    assert said[said.index("identity") :] == (
        "identity fan\nnetwork 4:110000000000000000000010\nread weather/#\n"
        "identity hub\nread devices/#\nwrite devices/+/command/#\n"
        "identity lamp\nnetwork 6:00100000000000010000110110111000\nnetwork 4:\n"
        "identity pump\nnetwork 4:110000000000000000000010\ndeny alarm now/x\n"
        "read weather/#\nwrite alarm now/+\n"
        "end\n"
    )
    key = authority.issuing_certificate.extensions.get_extension_for_class(SubjectKeyIdentifier)
    issuer = f"30168014{key.value.digest.hex()}"  # an authorityKeyIdentifier, as DER
    head = f"securemqtt-access 1\nnumber 1\nprefix devices/\nissuer {issuer}\n"
    assert said.startswith(head)


def test_the_access_file_counts_its_changes(config: BrokerConfig, tmp_path: Path) -> None:
    path = tmp_path / "access"
    assert [write_access(path, config) for _ in range(2)] == [1, 1]
    bound = (Binding("pump", False, parse_network("192.0.2.1")),)
    write_rules(config.directory, Rules(1, networks=bound))
    assert write_access(path, config) == 2
    path.write_bytes(path.read_bytes()[:-10])  # damaged
    assert write_access(path, config) == 3


def test_stores_are_written_when_they_change(
    config: BrokerConfig, authority: Authority, tmp_path: Path
) -> None:
    assert write_stores(tmp_path, config, "secret")
    before = [(tmp_path / name).read_bytes() for name in (KEYSTORE, TRUSTSTORE)]
    assert not write_stores(tmp_path, config, "secret")
    config.renew_certificate(authority)
    assert write_stores(tmp_path, config, "secret")
    after = [(tmp_path / name).read_bytes() for name in (KEYSTORE, TRUSTSTORE)]
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)
    assert write_stores(tmp_path, config, "another")
    for name in (KEYSTORE, TRUSTSTORE):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_a_damaged_certificate_is_told(config: BrokerConfig, tmp_path: Path) -> None:
    (config.directory / "server.pem").write_bytes(b"nothing")
    with pytest.raises(FatalError, match="is damaged: run securemqtt broker init --force"):
        write_stores(tmp_path, config, "secret")


def test_cipher_suites_have_the_names_of_iana() -> None:
    """As OpenSSL says them itself."""
    for cipher in TLS12_CIPHERS:
        done = subprocess.run(
            [require_program("openssl"), "ciphers", "-stdname", cipher],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds(20),
        )
        lines = [line.split() for line in done.stdout.splitlines()]
        (name,) = [line[0] for line in lines if line[2] == cipher]
        assert iana_name(cipher) == name


def test_a_directory_is_no_markup(config: BrokerConfig) -> None:
    assert "<path>/a&amp;b&lt;/server.p12</path>" in render(config, Path("/a&b<"), "secret")
    with pytest.raises(FatalError, match="HiveMQ cannot use a directory with"):
        render(config, Path("/a${b}"), "secret")
