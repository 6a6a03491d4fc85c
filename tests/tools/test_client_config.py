"""Other people's clients with our broker: what `securemqtt broker client-config` prints is run as
it stands, with files that provisioning has made.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shlex
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.broker.clients import KINDS
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.kinds import AMQTT, AUTO
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.network.net import free_port
from support.requirements import find_program, require_program, unavailable
from support.setup_environment import ROOT
from support.speed import seconds

ANSWER_S = seconds(30)
_INSTALL_S = seconds(300)
_PACKAGES = {"mqtt": "5.16.0", "node-red": "4.1.8"}
_CACHE = ROOT / ".build" / "cache" / "npm"
_PRIVATE = "PRIVATE KEY"
_PROVISION = ["securemqtt", "provision", "pi"]
_ID = "workshop"
_NOTE = f"devices/{_ID}/note"
# Only what the headers touch: stand-ins for ESP-IDF's and Arduino's own.
_MQTT_CLIENT_H = """
typedef struct {
    struct {
        struct { const char *uri; } address;
        struct { const char *certificate; } verification;
    } broker;
    struct {
        const char *username, *client_id;
        struct { const char *password, *certificate, *key; } authentication;
    } credentials;
} esp_mqtt_client_config_t;
"""
_WIFI_CLIENT_SECURE_H = """
#include <cstdio>
struct WiFiClientSecure {
    void setCACert(const char *text) { std::printf("%s|", text); }
    void setCertificate(const char *text) { std::printf("%s|", text); }
    void setPrivateKey(const char *text) { std::printf("%s|", text); }
};
"""
_ESP_IDF_PROGRAM = """
#include <stdio.h>
#include "header.h"
int main(void) {
    esp_mqtt_client_config_t config;
    securemqtt_configure(&config);
    printf("%s|%s|%s|%s|%s", config.broker.verification.certificate,
        config.credentials.authentication.certificate, config.credentials.authentication.key,
        config.broker.address.uri, config.credentials.client_id);
    return 0;
}
"""
_ARDUINO_PROGRAM = """
#include "header.h"
int main() {
    WiFiClientSecure net;
    securemqtt_configure(net);
    std::printf("mqtts://%s:%d|%s", SECUREMQTT_HOST, SECUREMQTT_PORT, SECUREMQTT_ID);
    return 0;
}
"""


class Desk(NamedTuple):
    """A broker that runs, and the home where its authority and the bundle of one id are."""

    home: Path
    broker: BrokerProcess
    password: tuple[str, ...]  # the option, where the broker demands one

    @property
    def bundle(self) -> Path:
        return self.home / "bundles" / _ID

    def config(self, kind: str, *more: str, capsys: pytest.CaptureFixture[str]) -> str:
        """Return what the command prints."""
        arguments = ["broker", "client-config", _ID, "--for", kind, "--home", str(self.home)]
        status = main([*arguments, *self.password, *more])
        printed = capsys.readouterr()
        assert (status, printed.err) == (0, "")
        return printed.out


@pytest.fixture(scope="module", params=["root", "intermediate", "password", "amqtt"])
def desk(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """Run a broker of one of four sorts; the one with an intermediate also has WebSockets."""
    home = tmp_path_factory.mktemp(request.param)
    intermediate, passwords = request.param == "intermediate", request.param == "password"
    authority = Authority.create(home / "ca", passphrase=None, intermediate=intermediate)
    BrokerConfig.create(
        home / "broker",
        authority,
        names=["localhost", "127.0.0.1"],
        port=free_port(),
        websockets_port=free_port() if intermediate else None,
        passwords=passwords,
    )
    option: tuple[str, ...] = ()
    if passwords:
        file = home / f"{_ID}.password"
        option = ("--password-file", str(file))
        password = ["broker", "password", _ID, "--out", str(file), "--home", str(home)]
        assert main(password) == 0
    engine = AMQTT if request.param == "amqtt" else AUTO
    with BrokerProcess(home / "broker", engine=engine) as broker:
        desk = Desk(home, broker, option)
        address = f"localhost:{broker.port}"
        provision = ["provision", "pi", "--id", _ID, "--broker", address, "--home", str(home)]
        assert main([*provision, "--out", str(desk.bundle)]) == 0
        yield desk


@contextmanager
def running(arguments: list[str], directory: Path, **environment: str) -> Iterator[str]:
    """Run a program until it has shown the note, and the word hello; give what it has printed."""
    process = subprocess.Popen(
        arguments,
        cwd=directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield _read_until(process, rf"{_NOTE}\W.*hello")
    finally:
        process.kill()
        process.communicate()


def _read_until(process: subprocess.Popen[bytes], pattern: str) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + ANSWER_S
    text = ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not re.search(pattern, text):
            assert selector.select(max(0.0, deadline - time.monotonic())), text
            piece = os.read(process.stdout.fileno(), 4096)
            assert piece, text
            text += piece.decode()
    return text


def _sockets(desk: Desk) -> list[tuple[str, ...]]:
    """Return the options for each way that leads to a broker."""
    return [(), ("--websockets",)] if desk.broker.websockets_port else [()]


def test_mosquitto_pub_and_sub(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    require_program("mosquitto_pub")
    text = desk.config("mosquitto", capsys=capsys)
    pub, sub = (line for line in text.splitlines() if not line.startswith("#"))
    assert pub.startswith("mosquitto_pub ") and sub.startswith("mosquitto_sub ")
    script = f"{pub}\n{sub} -C 1 -W {int(ANSWER_S)}"
    done = subprocess.run(
        ["sh", "-ec", script], capture_output=True, text=True, timeout=2 * ANSWER_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{_NOTE} hello\n", "")
    assert "the first with -n in place of -m hello takes it away again" in text
    script = f"{pub.replace('-m hello', '-n')}\n{sub} -C 1 -W 1"
    done = subprocess.run(
        ["sh", "-ec", script], capture_output=True, text=True, timeout=2 * ANSWER_S, check=False
    )
    assert (done.returncode, done.stdout) == (27, "")  # nothing came


def test_openssl(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    require_program("openssl")
    for host in ("localhost", "127.0.0.1"):
        script = desk.config("openssl", "--host", host, capsys=capsys)
        done = subprocess.run(
            ["sh", "-e"],
            input=script,
            capture_output=True,
            text=True,
            timeout=2 * ANSWER_S,
            check=False,
        )
        assert done.returncode == 0
        assert "Verification: OK" in done.stderr
        assert done.stdout.strip() == ("" if desk.password else "20 02 00 00")


@pytest.mark.parametrize("kind", ["paho", "aiomqtt"])
def test_python(kind: str, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in _sockets(desk):
        program = tmp_path / "program.py"
        program.write_text(desk.config(kind, *options, capsys=capsys))
        with running([sys.executable, "-u", str(program)], tmp_path) as shown:
            assert "Traceback" not in shown


@pytest.mark.long
@pytest.mark.timeout(int(_INSTALL_S + 4 * ANSWER_S))
def test_mqttjs(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    modules = _npm("mqtt")
    for options in _sockets(desk):
        program = tmp_path / "program.js"
        program.write_text(desk.config("mqttjs", *options, capsys=capsys))
        arguments = [require_program("node"), str(program)]
        with running(arguments, tmp_path, NODE_PATH=str(modules)) as shown:
            assert "connected" in shown


@pytest.mark.long
@pytest.mark.timeout(int(_INSTALL_S + 4 * ANSWER_S))
def test_node_red(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = _npm("node-red") / "node-red" / "red.js"
    for options in _sockets(desk):
        directory = tmp_path / f"user{len(options)}"
        directory.mkdir()
        flow = json.loads(desk.config("node-red", *options, capsys=capsys))
        for node in flow:  # what somebody would click on, and where he would look
            if node["type"] == "inject":
                node |= {"once": True, "repeat": "1"}
            if node["type"] == "debug":
                node |= {"tosidebar": False, "console": True, "complete": "true"}
            if node["type"] == "mqtt-broker" and desk.password:  # and what he would enter
                login = {"user": _ID, "password": Path(desk.password[1]).read_text()}
                (directory / "flow_cred.json").write_text(json.dumps({node["id"]: login}))
        (directory / "flow.json").write_text(json.dumps(flow))
        arguments = [require_program("node"), str(program), "-u", str(directory)]
        arguments += ["-p", str(free_port()), "-D", "uiHost=127.0.0.1", "-D", "flowFile=flow.json"]
        arguments += ["-D", "credentialSecret=false"]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            shown = _read_until(process, rf"{_NOTE}'(.|\n)*'hello'|'hello'(.|\n)*{_NOTE}")
        finally:
            process.kill()
            process.communicate()
        assert f"Connected to broker: {_ID}@" in shown


def _npm(package: str) -> Path:
    """Return a directory of modules with a package of npm's, which is fetched once."""
    npm = find_program("npm")
    if npm is None:
        unavailable("npm is not installed, to fetch a client for this test: apt-get install npm")
    directory = _CACHE / f"{package}-{_PACKAGES[package]}"
    if not directory.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as name:  # another worker may be at it, too
            place = Path(name) / "place"
            place.mkdir()
            (place / "package.json").write_text("{}")
            wanted = f"{package}@{_PACKAGES[package]}"
            command = [npm, "install", "--no-audit", "--no-fund", "--omit=optional", wanted]
            done = subprocess.run(
                command, cwd=place, capture_output=True, text=True, timeout=_INSTALL_S, check=False
            )
            assert done.returncode == 0, done.stderr[-2000:]
            try:
                place.rename(directory)
            except OSError:  # that one was first
                assert (directory / "node_modules").exists()
    return directory / "node_modules"


@pytest.mark.parametrize("kind", ["esp-idf", "arduino"])
def test_headers_compile_and_hold_the_files(
    kind: str, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = tmp_path / "header.h"
    printed = desk.config(kind, "--out", str(header), capsys=capsys)
    assert _PRIVATE not in printed
    assert stat.S_IMODE(header.stat().st_mode) == 0o600
    compilers = [one for one in (["g++"], ["gcc"]) if kind == "esp-idf" or one == ["g++"]]
    if shutil.which("g++") is None:
        unavailable("no C++ compiler is installed: apt-get install g++")
    (tmp_path / "mqtt_client.h").write_text(_MQTT_CLIENT_H)
    (tmp_path / "WiFiClientSecure.h").write_text(_WIFI_CLIENT_SECURE_H)
    for (compiler,) in compilers:
        source = tmp_path / f"program.{'cpp' if compiler == 'g++' else 'c'}"
        source.write_text(_ESP_IDF_PROGRAM if kind == "esp-idf" else _ARDUINO_PROGRAM)
        program = tmp_path / "program"
        command = [compiler, "-Wall", "-Werror", "-I", str(tmp_path), "-o", str(program)]
        command.append(str(source))
        if desk.password and kind == "arduino":
            command.append("-Wno-unused-variable")  # the password is for the sketch to use
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        shown = subprocess.check_output([program], text=True, timeout=ANSWER_S).split("|")
        files = [
            (desk.bundle / name).read_text() for name in ("ca.pem", "device.pem", "device.key")
        ]
        assert shown == [*files, f"mqtts://localhost:{desk.broker.port}", _ID]


def test_home_assistant(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """What it asks for is there in the form that its own checks want (2026.2's config_flow.py)."""
    text = desk.config("home-assistant", capsys=capsys)
    files = dict(re.findall(r"^#   Upload (.*): (.*)$", text, re.MULTILINE))
    certificate = files["client certificate file"]
    key = files["private key file"]
    load_pem_private_key(Path(key).read_bytes(), None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(files["custom CA certificate file"])
    assert f"#   Broker: localhost\n#   Port: {desk.broker.port}\n" in text
    (sensor,) = yaml.safe_load(text)["mqtt"]
    assert sensor["sensor"]["value_template"] == "{{ value_json.celsius }}"


def test_mqttx_names_files_that_are_there(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """MQTTX cannot be installed here: its options were compared with its source."""
    text = desk.config("mqttx", capsys=capsys)
    lines = [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]
    assert [line[:2] for line in lines] == [["mqttx", "pub"], ["mqttx", "sub"]]
    for line in lines:
        for option in ("--ca", "--cert", "--key"):
            assert Path(line[line.index(option) + 1]).is_file()
        assert "--insecure" not in line


@pytest.mark.parametrize("kind", KINDS)
def test_no_private_key_is_printed_and_others_get_none(
    kind: str, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["broker", "client-config", _ID, "--for", kind, "--home", str(desk.home)]
    status = main([*arguments, *desk.password])
    printed = capsys.readouterr()
    assert _PRIVATE not in printed.out + printed.err
    assert status == (1 if KINDS[kind].holds_key else 0)
    if KINDS[kind].holds_key:
        assert "--out FILE" in printed.err
    out = tmp_path / "out"
    assert main([*arguments, *desk.password, "--out", str(out)]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert (_PRIVATE in out.read_text()) == KINDS[kind].holds_key
    assert main([*arguments, *desk.password, "--out", str(out)]) == 1
    assert "exists and was left as it is" in capsys.readouterr().err


@pytest.fixture
def home(authority: Authority, tmp_path: Path) -> Path:
    """Make a home with files of an id by `ca device`, and no broker."""
    home = tmp_path / "home"
    assert main(["ca", "init", "--leave-keys-unencrypted", "--home", str(home)]) == 0
    assert main(["ca", "device", _ID, "--home", str(home)]) == 0
    assert main(["ca", "device", "board", "--der", "--home", str(home)]) == 0
    return home


def _ask(home: Path, *arguments: str) -> int:
    return main(["broker", "client-config", *arguments, "--home", str(home)])


def test_files_of_ca_device_and_on_another_computer(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BrokerConfig.create(
        home / "broker",
        Authority.open(home / "ca"),
        names=["mqtt.local"],
        roles={_ID: "operator"},
    )
    capsys.readouterr()
    assert _ask(home, _ID, "--for", "mosquitto", "--directory", "/home/pi/my keys") == 0
    printed = capsys.readouterr().out
    assert "-h mqtt.local -p 8883 --cafile '/home/pi/my keys/ca.crt' " in printed
    assert (
        "# Copy to /home/pi/my keys, readable for its user only: ca.crt device.crt device.key"
        in (printed)
    )
    assert "devices/+/command/#; read devices/workshop/#, devices/#." in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((_ID, "--for", "mosquitto"), "the broker's port is not known here"),
        (("nobody", "--for", "mosquitto"), "there are no files of nobody"),
        (("../x", "--for", "mosquitto"), "is no device id"),
        (("board", "--for", "mosquitto"), "ca.crt is not there"),
        ((_ID, "--for", "arduino", "--websockets", "--out", "x.h"), "does not speak WebSockets"),
        ((_ID, "--for", "paho", "--websockets"), "no port for WebSockets"),
        ((_ID, "--for", "telnet"), "invalid choice: 'telnet'"),
        ((_ID, "--for", "paho", "--out", "/nonexistent/x"), "there is no directory /nonexistent: "),
        ((_ID, "--for", "arduino", "--out", "-"), "this header holds the private key"),
        ((_ID, "--for", "paho", "--directory", "/a\nimport os"), "such as a line feed"),
        (
            ("board", "--for", "paho", "--bundle", "{home}/ca/issued/devices/workshop"),
            "of workshop,",
        ),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], words: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert _ask(home, *(text.format(home=home) for text in arguments)) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and words in printed.err
    assert printed.err.startswith("securemqtt: ") and printed.err.count("\n") == 1


def test_a_password_that_is_not_there_and_output_to_where_it_goes_anyway(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    BrokerConfig.create(home / "broker", Authority.open(home / "ca"), names=["mqtt.local"])
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert _ask(home, _ID, "--for", "paho", "--password-file", "/nonexistent") == 1
    said = capsys.readouterr().err
    assert "there is no file /nonexistent: make it with `securemqtt broker password" in said
    assert _ask(home, _ID, "--for", "paho") == 0
    printed = capsys.readouterr().out
    assert _ask(home, _ID, "--for", "paho", "--out", "-") == 0
    assert capsys.readouterr().out == printed and not Path("-").exists()


@pytest.mark.parametrize("more", [{"imported": True}, {"prefix": "site-7/pump"}], ids=str)
def test_nothing_is_said_of_the_rules_of_somebody_elses_broker(
    more: dict[str, object],
    authority: Authority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = write_bundle(tmp_path / "bundle", authority, _ID, port=8883, **more)
    assert _ask(tmp_path, _ID, "--for", "mosquitto", "--bundle", str(bundle)) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert "is for a broker of somebody else's" in printed.err


@pytest.mark.parametrize("known", [True, False], ids=["set-up-here", "elsewhere"])
def test_a_prefix_that_our_own_broker_allows_is_ours(
    known: bool, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = {"prefix": f"devices/{_ID}/kitchen"}
    bundle = write_bundle(tmp_path / "bundle", authority, _ID, port=8883, **prefix)
    if known:
        BrokerConfig.create(tmp_path / "broker", authority, names=["localhost"])
    capsys.readouterr()
    assert _ask(tmp_path, _ID, "--for", "mosquitto", "--bundle", str(bundle)) == 0
    assert f"It may publish to devices/{_ID}/#" in capsys.readouterr().out
    # Whose it is comes first.
    assert _ask(tmp_path, "other", "--for", "mosquitto", "--bundle", str(bundle)) == 1
    assert f"is the bundle of {_ID}, not of other" in capsys.readouterr().err


def test_the_command_that_makes_a_bundle_runs_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "my home"
    authority = Authority.create(home / "ca", passphrase=None)
    authority.issue_device("board")
    for name, made in (("nobody", "nobody"), ("board", "OTHER")):
        assert _ask(home, name, "--for", "mosquitto") == 1
        command = shlex.split(capsys.readouterr().err.split("`")[1])
        out = home / "bundles" / made
        assert command == [*_PROVISION, "--id", made, "--broker", "…", "--out", str(out)]


def test_an_id_whose_key_is_on_a_board_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(home / "ca" / "issued" / "devices" / "board")  # as provisioning leaves nothing
    capsys.readouterr()
    assert _ask(home, "board", "--for", "mosquitto") == 1
    said = capsys.readouterr().err
    assert "board has a certificate, and its key is not on this computer" in said
    assert "Give this program an id of its own" in said and "--id board" not in said


def test_a_key_that_others_can_read_or_that_is_encrypted(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(desk.bundle, copy)
    (copy / "device.key").chmod(0o644)
    options = [_ID, "--bundle", str(copy), *desk.password]
    assert _ask(desk.home, *options, "--for", "paho") == 1
    assert "is open to other users" in capsys.readouterr().err
    require_program("openssl")
    encrypting = ["openssl", "pkcs8", "-topk8", "-in", str(desk.bundle / "device.key")]
    encrypting += ["-passout", "pass:secret words", "-out", str(copy / "device.key")]
    subprocess.run(encrypting, check=True, timeout=ANSWER_S)
    (copy / "device.key").chmod(0o600)
    assert _ask(desk.home, *options, "--for", "paho") == 0
    assert "the client has to be given its passphrase" in capsys.readouterr().out.replace("\n", " ")
    assert _ask(desk.home, *options, "--for", "arduino", "--out", str(tmp_path / "x.h")) == 1
    assert "is encrypted, and a board could not decrypt it" in capsys.readouterr().err
    assert not (tmp_path / "x.h").exists()
