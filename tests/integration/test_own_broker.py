"""docs/own-broker.md is true: its programs, as they stand there, on CPython and on MicroPython,
against brokers that are not ours, over real TLS.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from securemqtt_tools.broker.passwords import set_password
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import mpremote, require_libfaketime, require_micropython
from support.brokers.mqtt import Peer
from support.brokers.servers import mosquitto
from support.identities.credentials import Credentials, issued_credentials
from support.interpreters.micropython import (
    ROOT,
    micropython_command,
    micropython_environment,
    umqtt_directory,
)
from support.requirements import require_program
from support.speed import seconds

PAGE = ROOT / "docs" / "own-broker.md"
INTERPRETERS = ("cpython", "micropython")
RUN_S = seconds(60)
READING = ("home/greenhouse/reading", b'{"celsius": 21.5}')


def programs() -> dict[str, str]:
    """Return the page's programs by the file that their first line names."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {block.splitlines()[0].removeprefix("# "): block for block in blocks}


@dataclass(frozen=True)
class Broker:
    """Somebody else's broker, and a bare client of it that sees all that passes."""

    port: int
    watcher: Peer


class Place:
    """A directory with a program and its files: PEM for CPython, DER for MicroPython."""

    def __init__(self, directory: Path, interpreter: str) -> None:
        self.directory = directory
        self.is_board = interpreter == "micropython"

    def put(self, name: str, content: bytes) -> None:
        """Write a file given in PEM as this interpreter takes it; its owner's only."""
        if self.is_board:
            name = name.replace(".pem", ".der")
            if b"PRIVATE KEY" in content:
                key = load_pem_private_key(content, None)
                content = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            elif b"CERTIFICATE" in content:
                content = x509.load_pem_x509_certificate(content).public_bytes(Encoding.DER)
        path = self.directory / name
        path.touch(0o600)
        path.write_bytes(content)

    @property
    def main(self) -> Path:
        """The program."""
        return self.directory / "main.py"

    def write(self, program: str, port: int) -> None:
        """Write a program of the page, for this machine's broker."""
        program = program.replace('"mqtt.example.org"', '"localhost"').replace("8883", str(port))
        if self.is_board:  # as the page says
            program = program.replace('.pem"', '.der"')
        self.main.write_text(program)

    def run(self, program: str, port: int, **environment: str) -> str:
        """Run a program of the page to its end; return what it prints."""
        self.write(program, port)
        done = subprocess.run(
            [*(micropython_command() if self.is_board else [sys.executable]), "main.py"],
            env={**(micropython_environment() if self.is_board else os.environ), **environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.splitlines(keepends=True)
        # On a board the log is on standard output, too.
        return "".join(line for line in lines if not line.startswith("securemqtt "))


@pytest.fixture
def place(interpreter: str, tmp_path: Path) -> Place:
    return Place(tmp_path, interpreter)


def pem(authority: Authority) -> bytes:
    """Return an authority's root."""
    return authority.root.public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def public_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a stand-in for a public CA: it signs with an intermediate, which the server sends."""
    directory = tmp_path_factory.mktemp("public") / "ca"
    return Authority.create(directory, name="A public CA", passphrase=None, intermediate=True)


@pytest.fixture(scope="module")
def fullchain(public_ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Issue the certificate of a broker, as certbot has it: fullchain.pem and privkey.pem."""
    issued = public_ca.issue_server(["localhost", "mqtt.example.org"])
    return issued_credentials(tmp_path_factory.mktemp("fullchain"), issued)


@pytest.fixture(scope="module")
def with_passwords(
    public_ca: Authority, fullchain: Credentials, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Broker, str]]:
    """Run a Mosquitto set up as Home Assistant's add-on sets up its own: TLS without client
    certificates, `cafile` the server's own file, users with passwords. Yield greenhouse's.
    """
    directory = tmp_path_factory.mktemp("home-assistant")
    users = directory / "users"
    users.touch()
    password, watching = set_password(users, "greenhouse"), set_password(users, "watcher")
    users.chmod(0o644)
    lines = (
        f"cafile {fullchain.certificate}",
        f"certfile {fullchain.certificate}",
        f"keyfile {fullchain.key}",
        "require_certificate false",
        "allow_anonymous false",
        f"password_file {users}",
    )
    context = ssl.create_default_context(cadata=pem(public_ca).decode())
    with mosquitto(directory, *lines) as port, Peer(port, context) as watcher:
        watcher.connect("watcher", username="watcher", password=watching)
        watcher.subscribe("#")
        yield Broker(port, watcher), password


@pytest.fixture(scope="module")
def with_certificates(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    """Run somebody's Mosquitto with mutual TLS, and rules of its own."""
    directory = tmp_path_factory.mktemp("certificates")
    own = issued_credentials(directory, authority.issue_server(["localhost"], renew=True))
    ca = directory / "ca.pem"
    ca.write_bytes(pem(authority))
    rules = directory / "rules"
    rules.write_text("pattern readwrite home/%u/#\nuser watcher\ntopic read #\n")
    rules.chmod(0o644)
    lines = (
        f"cafile {ca}",
        f"certfile {own.certificate}",
        f"keyfile {own.key}",
        "require_certificate true",
        "use_identity_as_username true",
        f"acl_file {rules}",
    )
    credentials = issued_credentials(directory, authority.issue_device("watcher", renew=True))
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(credentials.certificate, credentials.key)
    with mosquitto(directory, *lines) as port, Peer(port, context) as watcher:
        watcher.connect("watcher")
        watcher.subscribe("#")
        yield Broker(port, watcher)


def heard(broker: Broker) -> list[tuple[str, bytes]]:
    """Return what has passed the broker, the status apart."""
    return [one for one in broker.watcher.drain() if not one[0].endswith("/status")]


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_certificates_in_files(
    place: Place, authority: Authority, with_certificates: Broker
) -> None:
    issued = authority.issue_device("greenhouse", renew=True)
    place.put("ca.pem", pem(authority))
    place.put("device.pem", issued.chain_pem())
    place.put("device.key.pem", issued.key_pem())
    printed = place.run(programs()["certificates.py"], with_certificates.port)
    assert printed == "acknowledged: True\n"
    assert heard(with_certificates) == [READING]


def test_a_board_without_a_bundle_joins_its_wifi_and_connects(
    authority: Authority, with_certificates: Broker, tmp_path: Path
) -> None:
    require_micropython()
    require_libfaketime()
    place = Place(tmp_path, "micropython")
    issued = authority.issue_device("greenhouse", renew=True)
    place.put("ca.pem", pem(authority))
    place.put("device.pem", issued.chain_pem())
    place.put("device.key.pem", issued.key_pem())
    place.put("wifi.json", b'{"ssid": "Farm", "password": "correct horse battery"}')
    home = tmp_path / "home"
    home.mkdir()
    (home / "ca").symlink_to(authority.directory)
    shutil.copytree(umqtt_directory(), home / "cache" / "umqtt.simple")
    files = [str(path) for path in tmp_path.iterdir() if path.is_file()]
    place.write(programs()["certificates.py"], with_certificates.port)
    with SimulatedBoard() as simulated:
        # The library alone: no Wi-Fi, and a bundle that is not used.
        arguments = ["simulated", "--home", str(home), "--id", "unused", "--no-connect"]
        arguments += ["--port", simulated.port, "--broker", "nowhere.example"]
        assert main(arguments, command="provision") == 0
        mpremote(simulated, "fs", "cp", *files, ":/")
        mpremote(simulated, "fs", "cp", str(place.main), ":/main.py")
        since = simulated.position()
        simulated.soft_reset()  # its clock stays, which provision has set: no time server is here
        simulated.wait_for_output("acknowledged: ", RUN_S, since)
        simulated.wait_for_output(">>> ", RUN_S, since)
        console = simulated.console(since)
        assert "joined Wi-Fi Farm" in console and "acknowledged: True" in console, console
    assert heard(with_certificates) == [READING]


@pytest.mark.parametrize("interpreter", ["micropython"])
def test_the_pages_commands_make_der_of_pem(
    place: Place, authority: Authority, with_certificates: Broker
) -> None:
    issued = authority.issue_device("greenhouse", renew=True)
    for name, content in (
        ("ca.pem", pem(authority)),
        ("device.pem", issued.certificate_pem()),
        ("device.key.pem", issued.key_pem()),
    ):
        (place.directory / name).write_bytes(content)
    lines = re.search(r"^```\n(openssl x509.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert lines is not None and lines[1].count("openssl") == 3
    shell(lines[1], place.directory)
    printed = place.run(programs()["certificates.py"], with_certificates.port)
    assert printed == "acknowledged: True\n"
    assert heard(with_certificates) == [READING]


def test_the_pages_command_shows_the_root(with_passwords: tuple[Broker, str]) -> None:
    line = re.search(r"^openssl s_client.*$", PAGE.read_text(), re.MULTILINE)
    assert line is not None
    command = line[0].replace("-connect mqtt.example.org", "-connect localhost")
    command = command.replace("8883", str(with_passwords[0].port))
    issuers = shell(command, Path.cwd()).splitlines()
    assert len(issuers) == 2 and issuers[-1].endswith("A public CA root"), issuers


def shell(command: str, directory: Path) -> str:
    """Run lines of the page in a shell; return what they print."""
    require_program("openssl")
    done = subprocess.run(
        ["/bin/sh", "-ec", command],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("interpreter", ["micropython"])
def test_a_board_is_told_what_takes_the_place_of_the_systems_trust(place: Place) -> None:
    place.put("password.txt", b"any\n")
    program = programs()["public_ca.py"].partition("with client:")[0]
    program = "try:\n" + "".join(f"    {line}\n" for line in program.splitlines())
    program += "except Exception as error:\n    print(type(error).__name__, error.what)\n"
    assert place.run(program, 8883) == (
        "NotSupported MicroPython has no system_trust: give that CA's root as DER in ca\n"
    )


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_the_status_is_where_the_prefix_says(
    place: Place, public_ca: Authority, with_passwords: tuple[Broker, str]
) -> None:
    broker, password = with_passwords
    place.put("ca.pem", pem(public_ca))
    place.put("password.txt", password.encode() + b"\n")
    broker.watcher.drain()
    assert place.run(programs()["password.py"], broker.port) == "acknowledged: True\n"
    status = "home/greenhouse/status"
    assert broker.watcher.drain() == [(status, b"online"), READING, (status, b"offline")]


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_public_ca_by_its_root(
    place: Place, public_ca: Authority, with_passwords: tuple[Broker, str]
) -> None:
    broker, password = with_passwords
    place.put("root.pem", pem(public_ca))
    place.put("password.txt", password.encode() + b"\n")
    program = programs()["password.py"].replace("ca.pem", "root.pem")
    assert place.run(program, broker.port) == "acknowledged: True\n"
    assert heard(broker) == [READING]


@pytest.mark.parametrize("interpreter", ["cpython"])
def test_a_public_ca_that_the_system_trusts(
    place: Place, public_ca: Authority, with_passwords: tuple[Broker, str]
) -> None:
    broker, password = with_passwords
    place.put("system.pem", pem(public_ca))
    place.put("password.txt", password.encode() + b"\n")
    trusted = str(place.directory / "system.pem")
    printed = place.run(programs()["public_ca.py"], broker.port, SSL_CERT_FILE=trusted)
    assert printed == "acknowledged: True\n"
    assert heard(broker) == [READING]


_FAILS = """
from securemqtt.errors import SecureMQTTError

try:
    client.connect({seconds})
except SecureMQTTError as error:
    print(type(error).__name__)
"""


def failing(program: str) -> str:
    """Make of a program of the page one that says with which error it cannot connect."""
    made = program.partition("with client:")[0]
    try_to = _FAILS.format(seconds=seconds(20))
    return made.replace("client = Client(", "def made():\n  return Client(") + (
        try_to.replace("    client.connect", "    made().connect")
    )


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_what_goes_wrong_is_told_and_the_broker_always_verified(
    place: Place, authority: Authority, public_ca: Authority, with_passwords: tuple[Broker, str]
) -> None:
    broker, password = with_passwords
    place.put("ca.pem", pem(public_ca))
    place.put("password.txt", b"a guess\n")
    program = failing(programs()["password.py"])
    assert place.run(program, broker.port) == "NotAuthorised\n"
    place.put("password.txt", password.encode())
    place.put("ca.pem", pem(authority))
    assert place.run(program, broker.port) == "UnknownCA\n"
    nothing = re.sub(r'    (username|password_file)=".*",\n', "", program)
    assert nothing != program
    assert place.run(nothing, broker.port) == "UsageError\n"
    assert heard(broker) == []


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_broker_that_wants_a_certificate_says_so_to_a_password(
    place: Place, authority: Authority, with_certificates: Broker
) -> None:
    place.put("ca.pem", pem(authority))
    place.put("password.txt", b"a guess\n")
    program = failing(programs()["password.py"])
    assert place.run(program, with_certificates.port) == "ClientCertificateMissing\n"
