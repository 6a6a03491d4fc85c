"""What is written for RabbitMQ: permissions, by a model of its topics, and the name of the CRL."""

from __future__ import annotations

import itertools
import re
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from securemqtt.protocol.topics import covers
from securemqtt_tools.broker.rabbitmq import client_id, program
from securemqtt_tools.broker.rabbitmq.crls import hashed
from securemqtt_tools.broker.rabbitmq.program import find_rabbitmq
from securemqtt_tools.broker.rabbitmq.settings import erlang_string
from securemqtt_tools.broker.rabbitmq.topics import read_pattern, write_pattern
from securemqtt_tools.broker.rules import READ, WRITE, Access
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.keys import generate_key
from support.brokers.rabbitmq import require_rabbitmq
from support.requirements import require_program
from support.speed import seconds

_WORDS = ("a", "b", "")
_TOPICS = [
    "/".join(words) for length in (1, 2, 3) for words in itertools.product(_WORDS, repeat=length)
]
# What a client may send as a filter, and RabbitMQ does not check: # anywhere, and *.
_SENT = [
    "/".join(words)
    for length in (1, 2, 3)
    for words in itertools.product(("a", "b", "", "+", "*", "#"), repeat=length)
]
_RULES = ("#", "a/#", "a", "a/b", "+/b", "a/+", "+", "+/#", "a/+/b", "a//b", "b/+/#")


def matches(pattern: str, key: str) -> bool:
    """Ask as RabbitMQ does; Python has \\Z where PCRE has \\z."""
    return re.search(pattern.replace(r"\z", r"\Z"), key) is not None


def routing_key(topic: str) -> str:
    return topic.replace("/", ".").replace("+", "*")


def bound(binding: list[str], key: list[str]) -> bool:
    """Return True if a topic exchange would hand a key's message to a binding."""
    if not binding:
        return not key
    if binding[0] == "#":
        return any(bound(binding[1:], key[at:]) for at in range(len(key) + 1))
    return bool(key) and binding[0] in ("*", key[0]) and bound(binding[1:], key[1:])


BROUGHT = {
    sent: {t for t in _TOPICS if bound(routing_key(sent).split("."), routing_key(t).split("."))}
    for sent in _SENT
}


@pytest.mark.parametrize("denied", [(), *((one,) for one in _RULES), ("a/b", "+/a")])
@pytest.mark.parametrize("allowed", _RULES)
def test_a_filter_brings_nothing_that_may_not_be_read(allowed: str, denied: tuple[str]) -> None:
    """Whatever a client sends as a filter; and without a denial every filter that is covered is
    taken.
    """
    access = Access((allowed,), (), denied)
    readable = {topic for topic in _TOPICS if access.allows(READ, topic)}
    pattern = read_pattern(access)
    for sent in _SENT:
        taken = matches(pattern, routing_key(sent))
        assert not taken or BROUGHT[sent] <= readable, sent
        proper = "#" not in sent[:-1] and "*" not in sent
        if proper and not denied and covers(allowed, sent):
            assert taken, sent
    for topic in readable:
        assert matches(pattern, routing_key(topic)), topic


@pytest.mark.parametrize("denied", [(), ("a/b",), ("+/a",), ("a/#",)])
@pytest.mark.parametrize("allowed", _RULES)
def test_what_may_be_written(allowed: str, denied: tuple[str]) -> None:
    access = Access((), (allowed,), denied)
    pattern = write_pattern(access)
    for topic in _TOPICS:
        assert matches(pattern, routing_key(topic)) == access.allows(WRITE, topic), topic


@pytest.mark.parametrize(
    ("rule", "key", "may"),
    [
        ("x(y|z)/#", "x(y|z).a", True),
        ("x(y|z)/#", "xy.a", False),
        ("{username}/a", "{username}.a", True),
        ("grün/ä", "grün.ä", True),
        ("a b/c", "a b.c", True),
        ("a/#", "b\na.x", False),
        ("a", "a\n", False),
        ("a/+", "a.b\n.c", False),
        ("#", "$SYS.x", False),
        ("$SYS/#", "$SYS.x", False),
        ("a.b/c", "a.b.c", False),
        ("*/c", "x.c", False),
        ("*/c", "*.c", False),
    ],
)
def test_characters_that_mean_something(rule: str, key: str, may: bool) -> None:
    access = Access((rule,), (rule,))
    assert matches(read_pattern(access), key) is may
    assert matches(write_pattern(access), key) is may
    assert "{username}" not in read_pattern(access)  # which RabbitMQ would put a name for


def test_a_denial_with_a_dot_is_for_all_that_it_may_mean() -> None:
    access = Access(("#",), ("#",), ("a.b/*",))
    for key in ("a.b.c", "a.b.*", "a.*.c", "a.#", "#"):
        assert not matches(read_pattern(access), key)
    assert matches(read_pattern(access), "a.c.b")


@pytest.mark.parametrize(
    "attributes",
    [
        [(NameOID.COMMON_NAME, "securemqtt test")],
        [(NameOID.COMMON_NAME, "My  Own CA"), (NameOID.ORGANIZATION_NAME, "Grün Ä")],
        [(NameOID.COUNTRY_NAME, "DE"), (NameOID.COMMON_NAME, "x" * 60), (NameOID.TITLE, "y" * 64)],
    ],
)
def test_the_crl_has_the_name_that_openssl_gives_it(
    tmp_path: Path, attributes: list[tuple[x509.ObjectIdentifier, str]]
) -> None:
    openssl = require_program("openssl")
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    begin = datetime(2026, 1, 1)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(begin)
        .next_update(begin + timedelta(days=1))
        .sign(generate_key("p256"), hashes.SHA256())
    )
    path = tmp_path / "crl.pem"
    path.write_bytes(crl.public_bytes(Encoding.PEM))
    command = [openssl, "crl", "-in", path, "-noout", "-hash"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(20), check=True)
    assert done.stdout.strip() == hashed(name)


def test_erlang_reads_a_path_as_it_is() -> None:
    assert erlang_string('/a "b"\\ä') == '"/a \\x{22}b\\x{22}\\x{5c}\\x{e4}"'


def _installed(directory: Path, version: str) -> Path:
    place = directory / f"rabbitmq_server-{version}" / "sbin"
    place.mkdir(parents=True)
    server = place / "rabbitmq-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    return place


def test_another_series_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(program.VARIABLE, str(_installed(tmp_path, "3.10.25")))
    found = find_rabbitmq()
    assert found is not None
    assert found.version_text == "3.10.25"
    monkeypatch.setenv(program.VARIABLE, str(_installed(tmp_path, "4.0.5")))
    with pytest.raises(FatalError, match=r"RabbitMQ 4\.0\.5 was never tried with this: install"):
        find_rabbitmq()
    monkeypatch.setenv(program.VARIABLE, str(tmp_path))
    with pytest.raises(FatalError, match="has no rabbitmq-server: correct it, or unset it"):
        find_rabbitmq()


@pytest.mark.brokers
def test_the_module_is_compiled_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an absolute path erlc cuts off what the working directory begins with, without a slash."""
    require_rabbitmq()
    (tmp_path / "desk").mkdir()
    for here in (tmp_path / "desk", tmp_path):
        monkeypatch.chdir(here)
        libraries = tmp_path / f"desk-home-{here.name}" / "erlang"
        client_id.write_module(libraries)
        assert (libraries / client_id.MODULE / "ebin" / f"{client_id.MODULE}.beam").exists()


@pytest.mark.brokers
def test_what_erlc_says_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_rabbitmq()
    monkeypatch.setattr(client_id, "_SOURCE", "-module(securemqtt_client_id).\nnonsense\n")
    with pytest.raises(FatalError, match=r"securemqtt_client_id.erl: .*syntax error .* Is Erlang"):
        client_id.write_module(tmp_path / "erlang")
