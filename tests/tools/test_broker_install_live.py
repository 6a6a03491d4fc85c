"""What `broker install` changes without a restart: a system's real Mosquitto goes on running, and
so do all connections but those of who was revoked.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.mosquitto import eviction, live
from securemqtt_tools.broker.mosquitto.install import Installation
from securemqtt_tools.broker.mosquitto.live import Reload
from securemqtt_tools.broker.mosquitto.program import REWORKED_SINCE, find_mosquitto
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.cli import FatalError, main
from securemqtt_tools.pki import Authority
from support.brokers.mqtt import Peer, Refused, client_context
from support.brokers.system import System, running_system
from support.identities.credentials import (
    SERVER_AUTH,
    client_certificate,
    issued_credentials,
    signer_of,
)
from support.network.net import wait_until
from support.requirements import require_program
from support.speed import seconds

BROKER = Path(__file__).parents[2] / "tools" / "broker.py"


class Installed:
    """A system that has the broker of `home` installed."""

    def __init__(self, system: System, home: Path, websockets: bool = False) -> None:
        self.system = system
        self.home = home
        self.authority = Authority.create(home / "ca", passphrase=None)
        self.config = BrokerConfig.create(
            home / "broker",
            self.authority,
            names=["localhost"],
            port=free_port("127.0.0.1"),
            websockets_port=free_port("127.0.0.1") if websockets else None,
        )
        assert system.install(home, "--yes") == 0

    def context(self, device_id: str) -> ssl.SSLContext:
        """Issue a certificate; return the context of who shows it."""
        issued = self.authority.issue_device(device_id, renew=True)
        credentials = issued_credentials(self.home, issued)
        return client_context(self.home / "broker" / "ca.pem", credentials)

    def enter(
        self,
        context: ssl.SSLContext,
        device_id: str,
        session: ssl.SSLSession | None = None,
        websockets: bool = False,
    ) -> Peer:
        port = self.config.websockets_port if websockets else self.config.port
        assert port is not None
        peer = Peer(port, context, session=session, websockets=websockets)
        try:
            peer.connect(device_id, clean=False)
            peer.drain()
        except BaseException:
            peer.drop()
            raise
        return peer

    def revoke(self, *device_ids: str) -> None:
        """Revoke as users do: after it, nothing but `install` is left to run."""
        for device_id in device_ids:
            self.run("ca", "revoke", device_id)

    def run(self, command: str, *arguments: str) -> None:
        """Run another command for this home, which must succeed."""
        assert main([*arguments, "--home", str(self.home)], command=command) == 0

    def install(self, *options: str) -> int:
        return self.system.install(self.home, "--reload", self.system.reload, *options)

    @contextmanager
    def installing(self) -> Iterator[subprocess.Popen[str]]:
        """Run `broker install` beside this test; yield it when who was revoked is out."""
        arguments = [*self.system.arguments(self.home), "--reload", self.system.reload, "--yes"]
        with subprocess.Popen(
            [sys.executable, str(BROKER), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                lines = []
                while line := process.stdout.readline():
                    lines.append(line)
                    if line.startswith("Who was revoked is out. "):
                        break
                else:
                    assert process.stderr is not None
                    pytest.fail("".join(lines) + process.stderr.read())
                yield process
            finally:
                process.kill()

    def installation(self, answer_s: float) -> Installation:
        program = find_mosquitto()
        assert program is not None
        return Installation(self.config, program, self.system.etc, answer_s)

    def pid(self) -> str:
        return self.system.pid_file.read_text()

    def entries(self, device_id: str) -> int:
        """Return how often a device has come in over the network, says Mosquitto's log."""
        pattern = rf"New client connected from \d\S+ as {device_id} \("
        return len(re.findall(pattern, self.system.log.read_text()))


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installed]:
    with running_system() as system:
        yield Installed(system, tmp_path / "home")


def test_a_revocation_interrupts_that_device_alone(installed: Installed) -> None:
    contexts = {name: installed.context(name) for name in ("pump", "lost", "away")}
    installed.enter(contexts["away"], "away").drop()
    with (
        installed.enter(contexts["pump"], "pump") as pump,
        installed.enter(contexts["lost"], "lost") as lost,
    ):
        pid, session = installed.pid(), lost.tls.session
        installed.revoke("lost", "away")
        with installed.installing() as process:
            lost.wait_closed()
            for device_id, known in (("lost", None), ("lost", session), ("away", None)):
                with pytest.raises(Refused):
                    installed.enter(contexts[device_id], device_id, known)
            with installed.enter(installed.context("lost"), "lost") as again:  # a new certificate
                pump.drain()
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=seconds(20))
                again.drain()
        assert process.returncode == 130
        assert "had opened a connection before may log in for " in err
        pump.drain()
        assert installed.entries("pump") == 1
        assert installed.pid() == pid
    assert not list(installed.system.folder.glob("*.0"))  # nobody is trusted for good


def test_a_revocation_reaches_websockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before Mosquitto 2.1 that port looks at no CRL, but at a file that goes with it."""
    monkeypatch.setattr(eviction, "_HALF_OPEN_S", 0.5)
    with running_system() as system:
        installed = Installed(system, tmp_path / "home", websockets=True)
        contexts = {name: installed.context(name) for name in ("pump", "lost")}
        with installed.enter(contexts["lost"], "lost", websockets=True) as lost:
            installed.revoke("lost")
            assert installed.install("--yes") == 0
            lost.wait_closed()
        for websockets in (True, False):
            installed.enter(contexts["pump"], "pump", websockets=websockets).drop()
            with pytest.raises(Refused):
                installed.enter(contexts["lost"], "lost", websockets=websockets)
    assert "came without the files" not in capsys.readouterr().err


def test_a_revoked_server_is_nobody_to_be_put_out(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    with installed.enter(installed.context("pump"), "pump") as pump:
        installed.run("ca", "revoke", "localhost", "--role", "server")
        installed.run("broker", "reload")
        assert installed.install("--yes") == 0
        assert "to be reloaded: all stay connected." in capsys.readouterr().out
        pump.drain()
        assert installed.entries("pump") == 1


def test_a_revocation_works_while_the_certificate_has_run_out(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody can connect then, but who is connected stays, and who is revoked must not."""
    monkeypatch.setattr(eviction, "_HALF_OPEN_S", 0.5)
    contexts = {name: installed.context(name) for name in ("pump", "lost")}
    expired = client_certificate(
        installed.home,
        signer_of(installed.authority),
        ["localhost"],
        usages=[SERVER_AUTH],
        age=timedelta(days=2),
        alternative_names=[x509.DNSName("localhost")],
    )
    with (
        installed.enter(contexts["pump"], "pump") as pump,
        installed.enter(contexts["lost"], "lost") as lost,
    ):
        server = installed.config.directory / "server.pem"
        server.write_bytes(expired.key.read_bytes() + expired.certificate.read_bytes())
        installed.revoke("lost")
        assert installed.install("--yes") == 0
        printed = capsys.readouterr()
        assert "warning: its certificate has run out, so that no device connects" in printed.err
        assert "all stay connected, except who was revoked: lost." in printed.out
        lost.wait_closed()
        pump.drain()
        assert installed.entries("pump") == 1
    for context in contexts.values():  # a device that takes no notice of dates
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    installed.enter(contexts["pump"], "pump").drop()
    with pytest.raises(Refused):
        installed.enter(contexts["lost"], "lost")


def test_who_had_shown_its_certificate_before_is_put_out_too(installed: Installed) -> None:
    context = installed.context("lost")
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the client knows when it is over
    with (
        installed.enter(installed.context("pump"), "pump") as pump,
        Peer(installed.config.port, context) as lost,
    ):
        installed.revoke("lost")
        with installed.installing():
            with suppress(Refused):
                lost.connect("lost")

            def is_out() -> bool:
                try:
                    lost.drain()
                except (Refused, OSError):
                    return True
                return False

            wait_until(is_out, seconds(5), "the end of the revoked")
        pump.drain()
        assert installed.entries("pump") == 1


def test_the_watch_ends_by_itself(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(eviction, "_HALF_OPEN_S", 0.5)
    installed.context("lost")
    installed.revoke("lost")
    with installed.enter(installed.context("pump"), "pump"):
        assert installed.install("--yes") == 0
    out = capsys.readouterr().out
    assert "Mosquitto is to be reloaded: all stay connected, except who was revoked: lost." in out
    assert out.endswith("Nobody of them can come in any more.\n")
    assert installed.install("--yes") == 0
    assert "Nothing would change" in capsys.readouterr().out


def test_rules_and_certificate_change_under_a_live_connection(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    with installed.enter(installed.context("pump"), "pump") as pump:
        installed.config = installed.config.changed(roles={"pump": "monitor"})
        installed.authority.issue_server(["localhost"], renew=True)
        before = installed.config.server_certificate()
        installed.config = BrokerConfig.create(
            installed.config.directory,
            installed.authority,
            names=["localhost"],
            port=installed.config.port,
            roles=installed.config.roles,
        )
        assert installed.config.server_certificate() != before
        assert installed.install("--yes") == 0
        assert "all stay connected." in capsys.readouterr().out
        pump.subscribe("devices/#")
        with installed.enter(installed.context("other"), "other") as other:
            other.publish("devices/other/t", b"21")
        assert pump.receive() == ("devices/other/t", b"21")
        assert installed.entries("pump") == 1


def test_what_comes_by_a_role_waits_over_a_reload(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    installed.run("broker", "grant", "hub", "operator")
    assert installed.install("--yes") == 0
    hub, pump = installed.context("hub"), installed.context("pump")
    with installed.enter(hub, "hub") as peer:
        peer.subscribe("devices/#")
    installed.run("broker", "grant", "other", "monitor")
    capsys.readouterr()
    assert installed.install("--yes") == 0
    assert "all stay connected." in capsys.readouterr().out
    with installed.enter(pump, "pump") as peer:
        for number in range(20):
            peer.publish("devices/pump/t", b"%d" % number)
    with Peer(installed.config.port, hub) as peer:
        assert peer.connect("hub", clean=False) is True
        assert [peer.receive()[1] for _ in range(20)] == [b"%d" % one for one in range(20)]


def test_a_log_that_is_cut_costs_no_message(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    """As logrotate's copytruncate does, which docs/rules.md names: it takes no reload. Who is
    connected is unknown from then on.
    """
    program = find_mosquitto()
    assert program is not None
    installed.run("broker", "grant", "hub", "operator")
    capsys.readouterr()
    assert installed.install("--yes") == 0
    is_old = program.version < REWORKED_SINCE
    assert ("where somebody else reloads Mosquitto" in capsys.readouterr().out) is is_old
    hub, pump = installed.context("hub"), installed.context("pump")
    with installed.enter(hub, "hub") as peer:
        peer.subscribe("devices/#")
    os.truncate(installed.system.log, 0)
    with installed.enter(pump, "pump") as peer:
        for number in range(20):
            peer.publish("devices/pump/t", b"%d" % number)
        installed.run("broker", "grant", "other", "monitor")
        assert installed.install("--yes") == 0
        again = (
            "; hub, other may have to connect anew, since its log does not show who is connected"
            * is_old
        )
        assert f"all stay connected{again}." in capsys.readouterr().out
        for number in range(20, 40):
            peer.publish("devices/pump/t", b"%d" % number)
    with Peer(installed.config.port, hub) as peer:
        assert peer.connect("hub", clean=False) is True
        assert [peer.receive()[1] for _ in range(40)] == [b"%d" % one for one in range(40)]


def test_more_who_are_away_than_can_be_entered_are_told_beforehand(
    installed: Installed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = find_mosquitto()
    assert program is not None
    monkeypatch.setattr(live, "MOST_AWAY", 1)
    installed.config = installed.config.changed(roles={"pump": "monitor", "hub": "monitor"})
    assert installed.install("--dry-run") == 0
    said = "2 who have a role or a rule are away, more than 1" in capsys.readouterr().out
    assert said is (program.version < REWORKED_SINCE)


def test_the_dry_run_says_which_of_both(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        capsys.readouterr()
        before = installed.system.content()
        assert installed.install("--dry-run") == 0
        assert installed.system.content() == before
        return capsys.readouterr().out.splitlines()[-2]

    installed.config = installed.config.changed(roles={"pump": "monitor"})
    assert said() == "Mosquitto is to be reloaded: all stay connected."
    for count, reloads in ((20, True), (21, False)):
        for number in range(count):
            installed.authority.issue_device(f"lost-{count}-{number}")
        installed.revoke(*(f"lost-{count}-{number}" for number in range(count)))
        assert ("to be reloaded" in said()) is reloads
        assert installed.system.install(installed.home, "--yes") == 0
    installed.config.changed(save_each_change=True)
    assert said() == (
        "Mosquitto is to be restarted, so that all connect anew: this is more than it takes up "
        "while it runs."
    )


def test_websockets_are_reloaded_where_they_can_be(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those of somebody else, in clear: before 2.1 a reload leaves such a port in ruins."""
    program = find_mosquitto()
    assert program is not None
    local = installed.system.etc / "conf.d" / "local.conf"
    local.write_text(f"{local.read_text()}protocol websockets\n")
    installed.config.changed(roles={"pump": "monitor"})
    assert installed.install("--dry-run") == 0
    out = capsys.readouterr().out
    assert ("to be reloaded" in out) is (program.version >= REWORKED_SINCE)


def test_who_logs_to_no_file_is_restarted(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    main = installed.system.etc / "mosquitto.conf"
    main.write_text(main.read_text().replace("log_dest file", "log_dest stderr #"))
    installed.config.changed(roles={"pump": "monitor"})
    assert installed.install("--dry-run") == 0
    assert "it writes no log file" in capsys.readouterr().out


@pytest.mark.parametrize("deaf", ["nothing reloads", "it does not log who comes"])
def test_a_reload_that_fails_is_made_good_by_a_restart(installed: Installed, deaf: str) -> None:
    context = installed.context("lost")
    if deaf == "it does not log who comes":
        local = installed.system.etc / "conf.d" / "aaa.conf"
        local.write_text("connection_messages false\n")
        subprocess.run(shlex.split(installed.system.restart), check=True)
        wait_until(lambda: installed.system.listens(installed.config.port), what="Mosquitto")
    with installed.enter(context, "lost") as lost:
        pid = installed.pid()
        installed.revoke("lost")
        command = ["true"] if deaf == "nothing reloads" else shlex.split(installed.system.reload)
        installation = installed.installation(answer_s=seconds(0.3))
        reload = installation.reload(command)
        assert isinstance(reload, Reload)
        said: list[str] = []
        restart = shlex.split(installed.system.restart)
        assert installation.apply(restart, reload, said.append) is None
        lost.wait_closed()
    assert said[0].startswith("Mosquitto does not say in ")
    assert said[0].endswith(": Mosquitto is restarted instead")
    assert installed.pid() != pid
    assert installation.changes() == {}


def test_all_is_put_back_where_the_restart_fails_too(installed: Installed) -> None:
    installed.context("lost")
    before = installed.system.content()
    installed.revoke("lost")
    installation = installed.installation(answer_s=seconds(0.3))
    reload = installation.reload(["false"])
    assert isinstance(reload, Reload)
    with pytest.raises(FatalError, match="the previous configuration is back, but: "):
        installation.apply(["sh", "-c", "exit 5"], reload)
    assert installed.system.content() == before


def test_an_interrupted_installation_is_not_taken_for_done(installed: Installed) -> None:
    """Else the next one would find nothing to do, and who was revoked would stay."""
    installed.context("lost")
    before = installed.system.content()
    installed.revoke("lost")
    installed.system.reload = f"sh -c 'kill -INT {os.getpid()}; sleep {seconds(20)}'"
    assert installed.install("--yes") == 130
    assert installed.system.content() == before


@pytest.mark.parametrize("again", ["", "interrupted"])
def test_a_killed_installation_is_not_taken_for_done(
    installed: Installed, capsys: pytest.CaptureFixture[str], again: str
) -> None:
    """Killed between writing and reloading, it can put nothing back."""
    with installed.enter(installed.context("lost"), "lost") as lost:
        installed.revoke("lost")
        kill = ["--yes", "--reload", "sh -c 'kill -KILL $PPID'"]
        done = subprocess.run(
            [sys.executable, str(BROKER), *installed.system.arguments(installed.home), *kill],
            capture_output=True,
            timeout=seconds(60),
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done
        lost.drain()
        restart = installed.system.restart
        if again:
            installed.system.restart = f"sh -c 'kill -INT {os.getpid()}; sleep {seconds(20)}'"
            assert installed.install("--yes") == 130
            installed.system.restart = restart
        capsys.readouterr()
        assert installed.install("--yes") == 0
        assert "an earlier installation was cut short" in capsys.readouterr().out
        lost.wait_closed()
    assert installed.install("--yes") == 0
    assert "Nothing would change" in capsys.readouterr().out


def test_who_is_revoked_while_the_question_stands_is_not_forgotten(installed: Installed) -> None:
    """Once the CRL is installed, nothing would say that they have not been put out."""
    for device_id in ("lost", "later"):
        installed.context(device_id)
    installed.revoke("lost")
    installation = installed.installation(answer_s=seconds(0.3))
    reload = installation.reload(shlex.split(installed.system.reload))
    assert isinstance(reload, Reload)
    before = installed.system.content()
    installed.revoke("later")
    with pytest.raises(FatalError, match="run this again"):
        installation.apply(["false"], reload)
    assert installed.system.content() == before


@pytest.mark.parametrize("planted", ["log", "socket"])
def test_what_is_planted_for_root_gives_nothing_away(
    installed: Installed, tmp_path: Path, planted: str
) -> None:
    """The user mosquitto owns both directories. By its log it would have root read a file of
    root's; by its socket, talk to another service.
    """
    heard: list[bytes] = []
    installed.context("lost")
    installed.revoke("lost")
    installation = installed.installation(answer_s=seconds(0.3))
    reload = installation.reload(shlex.split(installed.system.reload))
    assert isinstance(reload, Reload)
    assert reload.socket is not None
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(tmp_path / "other"))
        service.listen()

        def serve() -> None:
            with suppress(OSError):
                connection, _ = service.accept()
                with connection:
                    heard.append(connection.recv(65536))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        if planted == "log":
            installed.system.log.rename(tmp_path / "log")
            installed.system.log.symlink_to(tmp_path / "log")
        else:
            reload.socket.unlink()
            reload.socket.symlink_to(tmp_path / "other")
        said: list[str] = []
        restart = shlex.split(installed.system.restart)
        assert installation.apply(restart, reload, said.append) is None
        service.shutdown(socket.SHUT_RDWR)
        thread.join(seconds(5))
    assert len(said) == 1
    assert f"cannot {'read' if planted == 'log' else 'put out'}" in said[0]
    for data in heard:
        assert data[:1] == b"\x16"  # a TLS handshake, which has told nothing yet
    assert bool(heard) is (planted == "socket")


def test_the_authoritys_file_has_the_name_that_openssl_looks_for(tmp_path: Path) -> None:
    authority = eviction.Authority(tmp_path / "socket")
    done = subprocess.run(
        [require_program("openssl"), "x509", "-noout", "-subject_hash"],
        input=authority.certificate,
        capture_output=True,
        timeout=seconds(20),
        check=True,
    )
    assert authority.hashed_name == f"{done.stdout.decode().strip()}.0"
