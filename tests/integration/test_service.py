"""A program becomes a service of a real systemd, which runs in namespaces of its own: it reports to
a real broker, ends in order, and keeps what it could not deliver.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import securemqtt
import securemqtt_tools
from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.brokers.mqtt import Peer, client_context
from support.identities.bundles import write_bundle
from support.identities.credentials import issued_credentials
from support.network.net import free_port, wait_until
from support.network.proxy import Proxy
from support.requirements import unavailable
from support.speed import seconds
from support.systemd.machine import SHARED, Machine

OWNER = "keeper"
# Counts on over its restarts; what it publishes is in order and without gaps, or something is lost.
COUNTER = """\
import os
import pathlib
import signal
import sys

from securemqtt import Client

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
kept = pathlib.Path(os.environ["STATE_DIRECTORY"], "count")
count = int(kept.read_text()) if kept.exists() else 0
client = Client(outbox="durable", connect_timeout_s=1)
print("runs as", os.getuid(), "with", sys.argv[1:])
try:
    with client:
        while True:
            client.publish("~/count", {"count": count})
            count += 1
            kept.write_text(str(count))
            client.wait(0.2)
finally:
    print("left", client.state)
"""
# As somebody writes it who has never heard of signals.
PLAIN = """\
from securemqtt import Client

client = Client()
try:
    with client:
        print("here")
        while True:
            client.publish("~/here", "yes")
            client.wait(1)
finally:
    print("left", client.state)
"""


# /dev/net/tun, which anybody's kernel has and lets be opened.
DEVICE = ("10", "200")


class Installation:
    """A machine with a Python of its own, in which securemqtt is installed."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.python = SHARED / "venv" / "bin" / "python"

    def command(
        self, *words: str | Path, user: str | None = None, sudo_user: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Call `securemqtt service …`, as a user or as sudo does for one."""
        environment = {"HOME": "/root"}
        if sudo_user is not None:
            environment["SUDO_USER"] = sudo_user
        if user is not None:
            home = f"/home/{user}"
            environment = {"HOME": home, "XDG_RUNTIME_DIR": f"/run/user/{self.uid(user)}"}
        main = "import sys; from securemqtt_tools.cli import main; sys.exit(main())"
        return self.machine.run(
            self.python, "-c", main, "service", *words, user=user, environment=environment
        )

    def checked(
        self, *words: str | Path, user: str | None = None, sudo_user: str | None = None
    ) -> str:
        """Call `securemqtt service …`, which must succeed; return what it says."""
        done = self.command(*words, user=user, sudo_user=sudo_user)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def uid(self, user: str) -> int:
        """Return a user's number."""
        return int(self.machine.checked("id", "-u", user))

    def put(self, name: str, text: str, owner: str = "root", mode: str = "644") -> Path:
        """Write a file into the machine and return its path there."""
        path = SHARED / name
        here = self.machine.shared / name
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text(text)
        self.machine.checked("chown", f"{owner}:", path)
        self.machine.checked("chmod", mode, path)
        return path

    def state(self, name: str, *options: str) -> dict[str, str]:
        """Return what systemd says of a service."""
        said = self.machine.checked("systemctl", "show", *options, f"{name}.service")
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Run a machine, in it a virtual environment of its own Python that has what `pip install
    securemqtt` brings.
    """
    shared = tmp_path_factory.mktemp("machine")
    shared.chmod(0o755)
    with Machine(shared) as machine:
        if machine.run("/usr/bin/python3", "-c", "import venv").returncode:
            unavailable("the system has no Python with venv: apt-get install python3-venv")
        machine.checked("/usr/bin/python3", "-m", "venv", "--without-pip", SHARED / "venv")
        (packages,) = (shared / "venv").glob("lib/python3*/site-packages")
        for package in (securemqtt, securemqtt_tools, paho):
            (source,) = package.__path__
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, packages / package.__name__, ignore=ignored)
        machine.checked("useradd", "--create-home", "--shell", "/bin/sh", OWNER)
        yield Installation(machine)


def _bundle(
    installation: Installation, authority: Authority, device_id: str, port: int, owner: str = "root"
) -> Path:
    name = f"bundle-{device_id}"
    here = write_bundle(installation.machine.shared / name, authority, device_id, port=port)
    here.chmod(0o700)
    installation.machine.checked("chown", "-R", f"{owner}:", SHARED / name)
    return SHARED / name


@contextmanager
def _operator(authority: Authority, port: int, directory: Path) -> Iterator[Peer]:
    ca = directory / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    identity = issued_credentials(directory, authority.issue_device("controller", renew=True))
    with Peer(port, client_context(ca, identity)) as peer:
        peer.connect("controller")
        yield peer


def _receive(peer: Peer, topic: str) -> bytes:
    while True:
        received, payload = peer.receive()
        if received == topic:
            return payload


def _count(peer: Peer, device_id: str) -> int:
    return int(json.loads(_receive(peer, f"devices/{device_id}/count"))["count"])


def test_a_program_of_roots_reports_leaves_in_order_and_loses_nothing(
    installation: Installation, authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    with _operator(authority, broker.port, tmp_path) as operator:
        operator.subscribe("devices/counter/#")
        with Proxy(broker.port) as proxy:
            bundle = _bundle(installation, authority, "counter", proxy.port)
            program = installation.put("counter.py", COUNTER)
            options = ("--bundle", bundle, "--arguments=--every 'a b' '$HOME' 100%")
            said = installation.checked("install", program, *options)
            assert "counter runs, and starts at each boot." in said
            assert "SIGTERM" not in said
            counts = [_count(operator, "counter")]
            assert counts == [0]
        # With the broker away, what is published is in the outbox, on the disk.
        before = _kept(installation, "counter")
        wait_until(lambda: _kept(installation, "counter") > before + 3, seconds(60))
        installation.machine.checked("systemctl", "stop", "counter")
        state = installation.state("counter")
        assert (state["ActiveState"], state["Result"]) == ("inactive", "success")
        published = _kept(installation, "counter")
        # The machine starts again, with the broker there.
        with Proxy(broker.port, ("127.0.0.1", proxy.port)):
            installation.machine.checked("systemctl", "start", "counter")
            while counts[-1] < published + 3:
                counts.append(_count(operator, "counter"))
            installation.machine.checked("systemctl", "stop", "counter")
            while _receive(operator, "devices/counter/status") != b"offline":
                pass
    assert sorted(set(counts)) == list(range(max(counts) + 1))
    printed = installation.machine.checked("journalctl", "--unit=counter", "--output=cat")
    (uid,) = {
        int(number)
        for number in re.findall(
            r"runs as (\d+) with \['--every', 'a b', '\$HOME', '100%'\]", printed
        )
    }
    assert 61184 <= uid <= 65519  # systemd's dynamic users
    assert printed.count("left closed\n") == 2
    assert "Traceback" not in printed
    removed = installation.checked("remove", "counter")
    assert removed.splitlines()[1:] == ["  What it kept is still in /var/lib/counter."]


def test_remove_says_where_messages_are_that_were_not_delivered(
    installation: Installation, authority: Authority
) -> None:
    bundle = _bundle(installation, authority, "undelivered", free_port())
    program = installation.put("undelivered.py", COUNTER)
    installation.checked("install", program, "--bundle", bundle)
    kept = "/var/lib/undelivered"
    wait_until(
        lambda: installation.machine.run("test", "-s", f"{kept}/count").returncode == 0, seconds(60)
    )
    assert installation.checked("remove", "undelivered").splitlines()[1:] == [
        f"  What it kept, with messages that were not delivered, is still in {kept}."
    ]


def test_a_bundle_is_one_services(installation: Installation, authority: Authority) -> None:
    """Two with one certificate would throw each other out."""
    bundle = ("--bundle", _bundle(installation, authority, "first", free_port()))
    first, second = (installation.put(f"{name}.py", PLAIN) for name in ("first", "second"))
    installation.checked("install", first, *bundle)
    refused = installation.command("install", second, *bundle)
    assert (refused.returncode, refused.stdout) == (1, "")
    for said in (
        f"the service first (/etc/systemd/system/first.service) has the bundle {bundle[1]} already",
        "--bundle DIR",
        "service remove first\n",
    ):
        assert said in refused.stderr
    shown = installation.command("show", second, *bundle)
    assert "`install` would refuse it: the service first" in shown.stderr
    # Nor is it for a service of a user's own.
    own = installation.command("install", second, *bundle, "--user", "--dry-run")
    assert (own.returncode, "the service first" in own.stderr) == (1, True)
    installation.checked("install", first, *bundle, "--group", "games")
    installation.checked("remove", "first")
    installation.checked("install", second, *bundle)
    installation.checked("remove", "second")


def test_a_bundle_that_systemd_cannot_hand_over_is_told_as_that(
    installation: Installation, authority: Authority
) -> None:
    bundle = _bundle(installation, authority, "unshared", free_port())
    program = installation.put("unshared.py", PLAIN)
    machine = installation.machine
    machine.checked("mount", "--make-rprivate", "/")
    try:
        refused = installation.command("install", program, "--bundle", bundle)
    finally:
        machine.checked("mount", "--make-rshared", "/")
    assert refused.returncode == 1
    printed = machine.checked("journalctl", "--unit=unshared", "--output=cat")
    assert "securemqtt: systemd has handed over no bundle" in printed
    assert "provisioned" not in printed
    # The remedy that it names is one.
    machine.checked("systemctl", "restart", "unshared")
    wait_until(
        lambda: "\nhere\n" in machine.checked("journalctl", "--unit=unshared", "--output=cat"),
        seconds(60),
    )
    installation.checked("remove", "unshared")


def _kept(installation: Installation, name: str) -> int:
    return int(installation.machine.checked("cat", f"/var/lib/{name}/count"))


def test_a_users_program_runs_as_that_user_and_plain_ones_end_in_order_too(
    installation: Installation, authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    bundle = _bundle(installation, authority, "plain", broker.port, OWNER)
    program = f"/home/{OWNER}/plain.py"
    directories = ("install", f"--owner={OWNER}", "--directory")
    for command in (
        ("install", f"--owner={OWNER}", installation.put("plain.py", PLAIN), program),
        (*directories, f"/home/{OWNER}/.ssh", f"/home/{OWNER}/.config"),
        ("touch", f"/home/{OWNER}/.ssh/id_ed25519"),
        ("cp", "--recursive", "--preserve", bundle, f"/home/{OWNER}/.config/securemqtt"),
    ):
        installation.machine.checked(*command)
    with _operator(authority, broker.port, tmp_path) as operator:
        operator.subscribe("devices/plain/#")
        said = installation.checked("install", program, sudo_user=OWNER)
        assert "ended as by Ctrl-C" in said
        assert _receive(operator, "devices/plain/status") == b"online"
        process = installation.state("plain")["MainPID"]
        status = installation.machine.checked("cat", f"/proc/{process}/status")
        assert f"\nUid:\t{installation.uid(OWNER)}\t" in status
        assert "\nNoNewPrivs:\t1\n" in status
        assert "\nCapBnd:\t0000000000000000\n" in status
        in_its_place = ("nsenter", f"--target={process}", "--mount", "ls", "-A")
        assert installation.machine.checked(*in_its_place, f"/home/{OWNER}/.ssh") == ""
        assert "plain.py" in installation.machine.checked(*in_its_place, f"/home/{OWNER}")
        installation.machine.checked("systemctl", "stop", "plain")
        while _receive(operator, "devices/plain/status") != b"offline":
            pass
    assert installation.state("plain")["Result"] == "success"  # SIGINT is an end in order
    # Its will would have said "offline", too.
    printed = installation.machine.checked("journalctl", "--unit=plain", "--output=cat")
    assert "\nleft closed\n" in printed


def test_a_program_that_was_tried_by_hand_before_becomes_a_service(
    installation: Installation, authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    """Its durable outbox is in the bundle then, with all sent."""
    bundle = _bundle(installation, authority, "tried", broker.port)
    once = f"""\
from securemqtt import Client

with Client({str(bundle)!r}, outbox="durable") as client:
    client.publish("~/here", "yes").wait(60)
"""
    installation.machine.checked(installation.python, installation.put("once.py", once))
    assert installation.machine.checked("ls", "-A", bundle / "outbox") == "lock\n"
    program = installation.put("tried.py", COUNTER)
    with _operator(authority, broker.port, tmp_path) as operator:
        operator.subscribe("devices/tried/#")
        installation.checked("install", program, "--bundle", bundle)
        assert _count(operator, "tried") == 0
        installation.machine.checked("systemctl", "stop", "tried")


def test_status_says_what_to_know_and_remove_leaves_only_what_it_kept(
    installation: Installation, authority: Authority, broker: BrokerProcess
) -> None:
    bundle = _bundle(installation, authority, "shown", broker.port)
    program = installation.put("shown.py", PLAIN)
    plan = installation.checked("install", program, "--bundle", bundle, "--dry-run")
    unit = Path("/etc/systemd/system/shown.service")
    assert plan.startswith(f"{unit} would be:\n\n# Written by `securemqtt service install`.")
    assert installation.machine.run("test", "-e", unit).returncode == 1
    installation.checked("install", program, "--bundle", bundle)
    wait_until(lambda: "here" in installation.command("status", "shown").stdout, seconds(60))
    status = installation.command("status", "shown")
    assert status.returncode == 0
    assert status.stdout.startswith("shown: runs (process ")
    assert "  sudo journalctl --unit shown --follow" in status.stdout
    changed = installation.checked(
        "install", program, "--bundle", bundle, "--dry-run", "--group", "daemon"
    )
    assert "\n-PrivateDevices=yes" in changed
    assert "\n+SupplementaryGroups=daemon" in changed
    removed = installation.checked("remove", "shown")
    # Its directory has nothing but links to the bundle's files, which is no matter.
    assert removed.splitlines() == [f"shown has ended, and {unit} is gone."]
    assert installation.state("shown")["LoadState"] == "not-found"
    again = installation.command("remove", "shown")
    assert again.returncode == 1
    assert "securemqtt has installed no shown among the system's services" in again.stderr


def test_a_program_that_always_fails_is_left_alone_and_status_says_so(
    installation: Installation, authority: Authority
) -> None:
    bundle = _bundle(installation, authority, "failing", free_port())
    program = installation.put("failing.py", "raise SystemExit('no sensor')\n")
    # Ten times in a second, for the test's sake; the rest is as installed.
    installation.put("quick.conf", "[Service]\nRestartSec=10ms\n")
    folder = "/etc/systemd/system/failing.service.d"
    installation.machine.checked("mkdir", folder)
    installation.machine.checked("cp", SHARED / "quick.conf", folder)
    installed = installation.command("install", program, "--bundle", bundle)
    assert installed.returncode == 1
    assert "failing is installed, and its program has ended at once" in installed.stderr
    wait_until(lambda: installation.state("failing")["ActiveState"] == "failed", seconds(60))
    status = installation.command("status", "failing")
    assert status.returncode == 3
    assert (
        "failing: has failed (exit-code) and is left alone, started again 10 times" in status.stdout
    )
    assert "no sensor" in status.stdout
    installation.checked("remove", "failing")


def test_hardware_is_a_groups_that_was_named(
    installation: Installation, authority: Authority
) -> None:
    bundle = _bundle(installation, authority, "hardware", free_port())
    text = 'print(open("/dev/sensor", "rb"))\n' + PLAIN
    program = installation.put("hardware.py", text)
    # Any device will do that is not one of those that every service has.
    installation.machine.checked("mknod", "--mode=660", "/dev/sensor", "c", *DEVICE)
    installation.machine.checked("chgrp", "games", "/dev/sensor")
    refused = installation.command("install", program, "--bundle", bundle)
    assert refused.returncode == 1
    printed = installation.machine.checked("journalctl", "--unit=hardware", "--output=cat")
    assert "No such file or directory: '/dev/sensor'" in printed
    installation.checked("install", program, "--bundle", bundle, "--group", "games")
    printed = installation.machine.checked("journalctl", "--unit=hardware", "--output=cat")
    assert "<_io.BufferedReader name='/dev/sensor'>" in printed
    # Where the kernel has a filter for devices (not here), it would shut out all but the clock.
    text = installation.checked("show", program, "--bundle", bundle, "--group", "games")
    assert "ProtectClock" not in text
    installation.checked("remove", "hardware")


def test_a_service_of_the_users_own(
    installation: Installation, authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    bundle = _bundle(installation, authority, "own", broker.port, OWNER)
    program = installation.put("own.py", COUNTER, OWNER)
    installation.put(
        "manager.service",
        f"""[Service]
User={OWNER}
Type=notify
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/{installation.uid(OWNER)}
RuntimeDirectory=user/{installation.uid(OWNER)}
ExecStart=/lib/systemd/systemd --user
""",
    )
    machine = installation.machine
    machine.checked("cp", SHARED / "manager.service", "/run/systemd/system/manager.service")
    refused = installation.command("install", program, "--bundle", bundle, "--user", user=OWNER)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    machine.checked("systemctl", "start", "manager")
    with _operator(authority, broker.port, tmp_path) as operator:
        operator.subscribe("devices/own/#")
        said = installation.checked("install", program, "--bundle", bundle, "--user", user=OWNER)
        assert "sudo loginctl enable-linger" in said
        assert _count(operator, "own") == 0
        status = installation.command("status", "own", "--user", user=OWNER)
        assert status.stdout.startswith("own: runs (process ")
        installation.checked("remove", "own", "--user", user=OWNER)
        while _receive(operator, "devices/own/status") != b"offline":
            pass
    machine.checked("systemctl", "stop", "manager")


@pytest.mark.parametrize("system", [True, False])
def test_systemd_has_nothing_against_the_unit(
    installation: Installation, authority: Authority, system: bool
) -> None:
    name = f"analysed-{'system' if system else 'user'}"
    bundle = _bundle(installation, authority, name, free_port())
    program = installation.put(f"{name}.py", COUNTER)
    scope = "--system" if system else "--user"
    text = installation.checked("show", program, "--bundle", bundle, scope)
    unit = installation.put(f"{name}.service", text)
    verify = installation.machine.run(
        "systemd-analyze",
        scope,
        "verify",
        "--man=no",
        unit,
        environment={"HOME": "/root", "XDG_RUNTIME_DIR": "/run"},
    )
    said = [line for line in verify.stderr.splitlines() if name in line]
    assert (verify.returncode, said) == (0, []), verify.stderr
    if system:
        security = installation.machine.checked(
            "systemd-analyze", "security", "--offline=yes", "--no-pager", unit
        )
        found = re.search(r"Overall exposure level for .*: ([0-9.]+)", security)
        assert found is not None
        assert float(found[1]) <= 1.5


class TestWhatCannotWork:
    """One line each, and nothing is written."""

    def _refused(
        self, installation: Installation, *words: str | Path, user: str | None = None
    ) -> str:
        done = installation.command(*words, user=user)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1, done.stderr
        line = done.stderr.rstrip()
        assert (
            installation.machine.run("sh", "-c", "ls /etc/systemd/system | grep refused").stdout
            == ""
        )
        return line

    def test_programs(self, installation: Installation, authority: Authority) -> None:
        bundle = ("--bundle", _bundle(installation, authority, "refused", free_port()))
        missing = self._refused(installation, "install", SHARED / "refused.py", *bundle)
        assert missing == f"securemqtt: there is no program {SHARED}/refused.py"
        broken = installation.put("refused.py", "while True\n")
        assert f"{broken}, line 1 is no Python" in self._refused(
            installation, "install", broken, *bundle
        )
        good = installation.put("refused.py", PLAIN)
        for name in ("Refused!", "dbus", "systemd-journald"):
            line = self._refused(installation, "install", good, *bundle, "--name", name)
            assert "no name for a service" in line or f"is a service {name} already" in line
        for name in ("dpkg", "private"):
            line = self._refused(installation, "install", good, *bundle, "--name", name)
            assert f"/var/lib/{name}, which would be the service's directory, is something" in line
        open_to_all = installation.put("refused.py", PLAIN, mode="666")
        assert f"anybody may change {open_to_all}" in self._refused(
            installation, "install", open_to_all, *bundle
        )
        hidden = installation.put("refused.py", PLAIN, OWNER, mode="200")
        assert f"{OWNER} could not read {hidden}" in self._refused(
            installation, "install", hidden, *bundle
        )
        passing = "/tmp/refused.py"
        installation.machine.checked("cp", good, passing)
        assert "is below /tmp, which no service sees" in self._refused(
            installation, "install", passing, *bundle
        )
        at_home = f"/home/{OWNER}/refused.py"
        installation.machine.checked("cp", good, at_home)
        installation.machine.checked("chown", "root:", at_home)
        installation.machine.checked("chmod", "644", at_home)
        assert "is in somebody's home" in self._refused(installation, "install", at_home, *bundle)
        shown = installation.command("show", at_home, *bundle)
        assert (shown.returncode, "ExecStart=" in shown.stdout) == (0, True)
        assert "`install` would refuse it: /home/" in shown.stderr
        good = installation.put("refused.py", PLAIN)
        assert "there is no group unheard-of" in self._refused(
            installation, "install", good, *bundle, "--group", "unheard-of"
        )
        assert "--group root is root's group" in self._refused(
            installation, "install", good, *bundle, "--group", "root"
        )
        line = self._refused(installation, "install", good, *bundle, "--arguments='a\nb'")
        assert "is not printable" in line
        line = self._refused(installation, "install", good, *bundle, user=OWNER)
        assert "a service of the system is root's to install" in line

    def test_show_tells_all_of_it(self, installation: Installation, authority: Authority) -> None:
        bundle = _bundle(installation, authority, "refused-all", free_port())
        (installation.machine.shared / bundle.name / "device.key").chmod(0o644)
        program = f"/home/{OWNER}/refused.py"
        installation.machine.checked(
            "install", "--mode=666", installation.put("refused.py", PLAIN), program
        )
        shown = installation.command(
            "show", program, "--bundle", bundle, "--name", "systemd-journald"
        )
        assert (shown.returncode, "ExecStart=" in shown.stdout) == (0, True)
        reasons = (
            "is open to others than its owner",
            f"anybody may change {program}",
            f"{program} is in somebody's home",
            "there is a service systemd-journald already",
        )
        lines = shown.stderr.splitlines()
        assert len(lines) == len(reasons)
        for line, reason in zip(lines, reasons, strict=True):
            assert line.startswith("securemqtt: `install` would refuse it: ")
            assert reason in line

    def test_an_environment_whose_python_is_in_a_home(
        self, installation: Installation, authority: Authority
    ) -> None:
        bundle = _bundle(installation, authority, "refused-python", free_port())
        program = installation.put("refused.py", PLAIN)
        target = "/root/.pyenv/bin/python3"
        python = SHARED / "venv" / "bin" / "python-of-a-home"
        machine = installation.machine
        machine.checked("mkdir", "--parents", Path(target).parent)
        machine.checked("cp", "/usr/bin/python3", target)
        machine.checked("ln", "--symbolic", target, python)
        other = Installation(machine)
        other.python = python
        line = self._refused(other, "install", program, "--bundle", bundle)
        assert f"{python} leads to {target}, which is in somebody's home" in line
        assert "/usr/bin/python3 -m venv DIR" in line
        assert "chown" not in line  # /root is nobody else's to read

    def test_bundles(self, installation: Installation, authority: Authority) -> None:
        program = installation.put("refused.py", PLAIN)
        nowhere = self._refused(installation, "install", program)
        assert nowhere.startswith("securemqtt: there is no bundle in /etc/securemqtt or /root/")
        bundle = _bundle(installation, authority, "refused-bundle", free_port())
        here = installation.machine.shared / bundle.name
        (here / "outbox").mkdir()
        (here / "outbox" / f"{1:020x}").write_text("not delivered yet")
        line = self._refused(installation, "install", program, "--bundle", bundle)
        assert f"then remove it: rm -r {bundle}/outbox" in line
        shown = installation.command("show", program, "--bundle", bundle)
        assert (shown.returncode, "ExecStart=" in shown.stdout) == (0, True)
        assert f"`install` would refuse it: {bundle}/outbox is in the bundle" in shown.stderr
        shutil.rmtree(here / "outbox")
        (here / "device.key").chmod(0o644)
        line = self._refused(installation, "install", program, "--bundle", bundle)
        assert "is open to others than its owner" in line
        (here / "device.key").unlink()
        line = self._refused(installation, "install", program, "--bundle", bundle)
        assert "device.key" in line

    def test_no_systemd(
        self, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from securemqtt_tools.cli import main

        if Path("/run/systemd/system").exists():
            pytest.skip("this machine has a systemd that runs")
        bundle = write_bundle(tmp_path / "bundle", authority, "refused-here", port=free_port())
        program = tmp_path / "refused.py"
        install = ["service", "install", str(program), "--bundle", str(bundle), "--user"]
        assert main(install) == 1
        assert capsys.readouterr().err == f"securemqtt: there is no program {program}\n"
        program.write_text(PLAIN)
        assert main(install) == 1
        assert "systemd does not run on this machine" in capsys.readouterr().err
        assert main([*install, "--dry-run"]) == 0
        said = capsys.readouterr()
        assert "\nExecStart=" in said.out
        assert "systemd could not be asked: systemd does not run on this machine" in said.out
        assert said.err == ""
