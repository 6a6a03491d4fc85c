"""Several nodes that are one broker: what `broker init --cluster` makes for each."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.cluster import create_cluster
from securemqtt_tools.broker.nodes import Cluster
from securemqtt_tools.broker.public import names_of
from securemqtt_tools.broker.rabbitmq import cluster as nodes
from securemqtt_tools.broker.rabbitmq.membership import COOKIE, NODE, TRUST
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from support.brokers.cluster import NODES, require_loopback
from support.brokers.home import Home
from support.brokers.rabbitmq import require_rabbitmq
from support.network.net import free_port
from support.requirements import heeding_modes
from support.speed import seconds

THREE = ("a.local", "b.local", "c.local")
INIT = ("init", "mqtt.local", "--for", "rabbitmq", "--cluster", *THREE)


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path / "home", capsys, broker=False)


def membership(directory: Path) -> Path:
    """Return where a node has that by which the others know it."""
    return directory / "broker" / "rabbitmq" / "cluster"


def test_each_node_has_a_home(home: Home) -> None:
    require_rabbitmq()
    out = home.good("broker", *INIT, "--operator", "hub", "--cluster-port", "25999")
    others = [home.directory / "nodes" / one for one in THREE[1:]]
    for name, directory in zip(THREE, (home.directory, *others), strict=True):
        config = BrokerConfig.open(directory / "broker")
        assert config.cluster == Cluster(THREE, name, 25999)
        assert config.cluster.leads == (name == "a.local")
        assert names_of(config.server_certificate()) == [name, "mqtt.local"]
        assert (config.bind, config.roles) == ("", {"hub": "operator"})
        for one in (COOKIE, NODE, TRUST):
            mode = (membership(directory) / one).stat().st_mode
            assert stat.S_IMODE(mode) == 0o600
    for directory in others:
        assert f"bring {directory} to that computer, into its ~/.securemqtt, over what" in out
    assert "what ends with a node is: its retained messages" in out


def test_nodes_know_each_other_by_certificates_of_their_own_kind(home: Home) -> None:
    """All by one trust, which is not the authority, and whose key is nowhere."""
    require_rabbitmq()
    home.good("broker", *INIT)
    places = [home.directory, *(home.directory / "nodes" / one for one in THREE[1:])]
    cookies = {(membership(one) / COOKIE).read_bytes() for one in places}
    trusts = {(membership(one) / TRUST).read_bytes() for one in places}
    assert (len(cookies), len(trusts)) == (1, 1)
    assert len(cookies.pop()) == 64
    (trust,) = x509.load_pem_x509_certificates(trusts.pop())
    keys = set()
    for one in places:
        (node,) = x509.load_pem_x509_certificates((membership(one) / NODE).read_bytes())
        node.verify_directly_issued_by(trust)
        keys.add(node.public_key().public_numbers())  # type: ignore[union-attr]
        context = ssl.create_default_context(cafile=str(membership(one) / TRUST))
        context.load_cert_chain(membership(one) / NODE)
    assert len(keys) == len(places)
    assert trust.public_key() not in [one.public_key() for one in home.authority.trust_anchors()]
    assert trust.public_key().public_numbers() not in keys  # type: ignore[union-attr]


def bring(directory: Path) -> int:
    """Run the command of docs/cluster.md for the home below a directory, with an `ssh` that leads
    to directories there; return its exit status.
    """
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    (command,) = [one for one in page.split("```sh\n") if one.startswith("for node in b.local")]
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\ncd "{directory}/$1" && HOME=$PWD exec sh -c "$2"\n')
    ssh.chmod(0o700)
    for one in THREE[1:]:
        (directory / one).mkdir(exist_ok=True)
    return subprocess.run(
        [*heeding_modes(), "sh", "-ec", command.partition("```")[0]],
        env={"HOME": str(directory), "PATH": f"{programs}:{os.environ['PATH']}"},
        check=False,
        timeout=seconds(60),
    ).returncode


def test_a_home_that_does_not_get_there_whole_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be the only copy of the node's keys."""
    require_rabbitmq()
    home = Home(tmp_path / ".securemqtt", capsys, broker=False)
    home.good("broker", *INIT)
    nodes_of = home.directory / "nodes"
    assert stat.S_IMODE(nodes_of.stat().st_mode) == 0o700  # a tar of keys is here for a while
    (b, c) = (membership(nodes_of / one) / NODE for one in THREE[1:])
    kept = c.read_bytes()
    c.chmod(0)
    assert bring(tmp_path) != 0
    assert c.read_bytes() == kept and not b.exists()
    c.chmod(0o600)
    # Nor where the other computer cannot be reached, or its disk is full.
    (tmp_path / "c.local" / ".securemqtt").touch()
    assert bring(tmp_path) != 0
    assert c.read_bytes() == kept


def test_homes_are_brought_again_by_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_rabbitmq()
    home = Home(tmp_path / ".securemqtt", capsys, broker=False)
    kept = tmp_path / "b.local" / ".securemqtt" / "broker" / "rabbitmq" / "mnesia"
    trusts = set()
    for more in ((), ("--force",)):
        home.good("broker", *INIT, *more)
        assert bring(tmp_path) == 0
        assert list((home.directory / "nodes").iterdir()) == []
        for name in THREE[1:]:
            there = membership(tmp_path / name / ".securemqtt")
            assert (there / TRUST).read_bytes() == (membership(home.directory) / TRUST).read_bytes()
            assert (there / COOKIE).read_bytes() == (
                membership(home.directory) / COOKIE
            ).read_bytes()
            for one in (there, there.parents[2], there / NODE):
                assert stat.S_IMODE(one.stat().st_mode) & 0o077 == 0
        trusts.add((membership(tmp_path / "b.local" / ".securemqtt") / TRUST).read_bytes())
        kept.mkdir(exist_ok=True)
    assert len(trusts) == 2


def test_a_node_becomes_a_broker_of_its_own(home: Home) -> None:
    require_rabbitmq()
    home.good("broker", *INIT)
    (home.broker / "rabbitmq" / ".erlang.cookie").write_bytes(b"of the cluster")
    mnesia = home.broker / "rabbitmq" / "mnesia"
    mnesia.mkdir()
    said = home.good("broker", *INIT, "--force")
    assert "is a broker of its own now" not in said and membership(home.directory).exists()
    said = home.good("broker", "init", "mqtt.local", "--for", "rabbitmq", "--force")
    assert "It was a node of a cluster, and is a broker of its own now" in said
    assert f"delete {mnesia} before" in said
    assert not membership(home.directory).exists()
    assert not (home.broker / "rabbitmq" / ".erlang.cookie").exists()
    said = home.good("broker", "init", "mqtt.local", "--for", "rabbitmq", "--force")
    assert "cluster" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*INIT[:-1],), "a cluster has 3, 5 or 7 different nodes, and these are 2"),
        ((*INIT[:-1], "A.local"), "a cluster has 3, 5 or 7 different nodes, and these are 2"),
        ((*INIT[:-1], "c"), "'c' has no domain"),
        ((*INIT[:-1], "fd00::1"), "'fd00::1' is an IPv6 address"),
        ((*INIT[:-1], "c d.local"), "neither a host name nor an IP address"),
        ((*INIT, "--bind", "127.0.0.1"), "--bind is for one computer"),
        (("init", "--cluster", *THREE), "auto makes no cluster here: add --for rabbitmq"),
    ],
)
def test_what_is_no_cluster(home: Home, arguments: tuple[str, ...], said: str) -> None:
    assert said in home.bad("broker", *arguments)
    assert not home.broker.exists()
    assert not (home.directory / "nodes").exists()


@pytest.mark.brokers
@pytest.mark.xdist_group("cluster")
@pytest.mark.timeout(seconds(300))
def test_a_new_node_without_the_others(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, and no longer than it may; it never begins a cluster of its own. One whose
    membership is missing says so.
    """
    require_rabbitmq()
    require_loopback()
    monkeypatch.setattr(nodes, "WAIT_S", 2.0)
    made = create_cluster(
        lambda node: tmp_path / node,
        authority,
        NODES,
        cluster_port=free_port(),
        port=0,
        engine="rabbitmq",
    )
    broker = BrokerProcess(made[1].directory)
    with pytest.raises(FatalError, match=r"does not start: .*no other node runs"):
        broker.start(seconds(120))
    assert not broker.running
    shutil.rmtree(made[1].directory / "rabbitmq" / "cluster")
    with pytest.raises(FatalError, match=r"is missing, by which the other nodes know this one"):
        broker.start(seconds(120))
