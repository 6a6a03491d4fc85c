"""A user's program, and what it shows of a mistake, are the same on CPython, on MicroPython and on
a provisioned board: the real `provision`, the real mpremote, a real broker.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import mpremote, require_libfaketime, require_micropython
from support.brokers.mqtt import Peer, client_context
from support.identities.bundles import write_bundle
from support.identities.credentials import issued_credentials
from support.interpreters.micropython import (
    ROOT,
    micropython_command,
    micropython_environment,
    umqtt_directory,
)
from support.interpreters.tracebacks import Traceback, source_of
from support.network.net import free_port
from support.speed import seconds

PROGRAM = Path(__file__).parent / "programs" / "greenhouse.py"
INTERPRETERS = ("cpython", "micropython", "board")
OUTPUT = """\
connected True
command water {'litres': 2} 1
command end None 1
flushed True True
state closed left in order 1
told 2 of ['fern', '~/command/+']
published ['~/answer/end', '~/answer/water', '~/ready']
still builtins [0, 1] True False NameError
True True
"""
RUN_S = seconds(60)
PROMPT = ">>> "
RESTARTED = "MPY: soft reboot\n"
BANNER = "MicroPython "


def _nothing() -> None:
    pass


class Board:
    """A provisioned board."""

    def __init__(self, simulated: SimulatedBoard, device_id: str, directory: Path) -> None:
        self.device_id = device_id
        self._simulated = simulated
        self._directory = directory

    def put(self, name: str, content: bytes) -> None:
        """Write a file; the program that runs is ended."""
        path = self._directory / "file"
        path.write_bytes(content)
        mpremote(self._simulated, "fs", "cp", str(path), f":{name}")

    def read(self, name: str) -> bytes:
        """Return a file's content; the program that runs is ended."""
        path = self._directory / "file"
        mpremote(self._simulated, "fs", "cp", f":{name}", str(path))
        return path.read_bytes()

    def run(self, program: str, prepare: Callable[[], object], meet: Callable[[], object]) -> str:
        """Start with this main.py, after `prepare`; return what it prints until the board's prompt,
        `meet` done in between.
        """
        self.put("main.py", program.encode())
        prepare()
        since = self._simulated.position()
        self._simulated.soft_reset()
        meet()
        self._simulated.wait_for_output(PROMPT, RUN_S, since)
        printed = self._simulated.console(since).replace("\r\n", "\n")
        return printed.rpartition(RESTARTED)[2].rpartition(BANNER)[0]


class Devices:
    """One device per interpreter, each with an identity of its own at the same broker."""

    def __init__(
        self, authority: Authority, broker: BrokerProcess, board: Board, directory: Path
    ) -> None:
        self.board = board
        self._directory = directory
        self._bundles = {
            interpreter: write_bundle(
                directory / interpreter,
                authority,
                f"user-{interpreter}",
                port=broker.port,
                board=interpreter == "micropython",
            )
            for interpreter in INTERPRETERS[:2]
        }

    def run(
        self,
        interpreter: str,
        program: str,
        prepare: Callable[[], object] = _nothing,
        meet: Callable[[], object] = _nothing,
    ) -> str:
        """Run a program to its end and return what it prints; `prepare` is called before it starts,
        `meet` while it runs.
        """
        if interpreter == "board":
            return self.board.run(program, prepare, meet)
        cpython = interpreter == "cpython"
        path = self._directory / "main.py"
        path.write_text(program)
        prepare()
        with subprocess.Popen(
            [*([sys.executable] if cpython else micropython_command()), str(path)],
            env={
                **(os.environ if cpython else micropython_environment()),
                "SECUREMQTT_BUNDLE": str(self._bundles[interpreter]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # where CPython's logging goes
            text=True,
        ) as process:
            try:
                meet()
                printed, logged = process.communicate(timeout=RUN_S)
                assert process.returncode == 0, printed + logged
                return printed
            finally:
                process.kill()


@pytest.fixture(scope="module")
def controller(
    authority: Authority, broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    """Connect as the operator, who hears that a device is ready."""
    directory = tmp_path_factory.mktemp("controller")
    ca = directory / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    operator = issued_credentials(directory, authority.issue_device("controller", renew=True))
    with Peer(broker.port, client_context(ca, operator)) as peer:
        # Since 2.0.12 Mosquitto refuses who wants none where there is a max_keepalive.
        peer.connect("controller", keep_alive_s=3600)
        peer.subscribe("devices/+/ready")
        yield peer


@pytest.fixture(scope="module")
def devices(
    authority: Authority, broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Devices]:
    """Provision a simulated board with the program, as a user does, and make bundles for the other
    interpreters.
    """
    require_micropython()
    require_libfaketime()
    home = tmp_path_factory.mktemp("home")
    (home / "ca").symlink_to(authority.directory)
    shutil.copytree(umqtt_directory(), home / "cache" / "umqtt.simple")
    password = home / "wifi-password"
    password.write_text("correct horse battery\n")
    password.chmod(0o600)
    with SimulatedBoard() as simulated:
        command = [sys.executable, str(ROOT / "tools" / "provision.py"), "simulated"]
        command += ["--home", str(home), "--id", "user-board", "--port", simulated.port]
        command += ["--broker", f"localhost:{broker.port}", "--main", str(PROGRAM)]
        command += ["--wifi", "Farm", "--wifi-password-file", str(password)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        board = Board(simulated, "user-board", home)
        assert board.read("main.py") == PROGRAM.read_bytes()
        yield Devices(authority, broker, board, tmp_path_factory.mktemp("devices"))


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_subclass_with_attributes_of_any_name_is_the_same_everywhere(
    interpreter: str, devices: Devices, controller: Peer
) -> None:
    own = f"devices/user-{interpreter}"

    def give_commands() -> None:
        assert controller.receive()[0] == f"{own}/ready"
        controller.publish(f"{own}/command/water", b'{"litres": 2}')
        controller.publish(f"{own}/command/end", b"null")

    # What the program said when provisioning had started it is none of this run's.
    printed = devices.run(interpreter, PROGRAM.read_text(), controller.drain, give_commands)
    assert printed == OUTPUT


def fail(devices: Devices, program: str) -> Traceback:
    """Have the board run a program that fails; return its traceback, held to the source."""
    traceback = Traceback(devices.run("board", program), program)
    traceback.check()
    return traceback


def test_a_misspelt_method_on_a_board(devices: Devices) -> None:
    traceback = fail(
        devices,
        "from securemqtt import Client\n\nclient = Client()\nclient.publsh('~/a', 1)\n",
    )
    assert traceback.frames == [("main.py", 4, "<module>")]
    assert traceback.last == "AttributeError: 'Client' object has no attribute 'publsh'"


def test_a_misspelt_name_in_a_handler_on_a_board(devices: Devices) -> None:
    traceback = fail(
        devices,
        f"""\
from securemqtt import Client


def on_state(state):
    client.publsh("~/state", state)


client = Client(port={free_port()})
client.on_state(on_state)
client.start()
client.wait(0)
""",
    )
    assert traceback.functions == ["securemqtt.inbox:_call", "main.py:on_state"]
    assert traceback.last == "AttributeError: 'Client' object has no attribute 'publsh'"


def test_a_payload_that_json_cannot_say_on_a_board(devices: Devices) -> None:
    traceback = fail(
        devices,
        """\
from securemqtt import Client

client = Client()
client.publish("~/a", {1, 2})
""",
    )
    assert traceback.functions[:2] == ["main.py:<module>", "securemqtt.client:publish"]
    traceback.check_explained("InvalidPayload", "")


def test_a_refused_connection_on_a_board(devices: Devices) -> None:
    port = free_port()
    traceback = fail(
        devices,
        "from securemqtt import Client\n\n"
        f"client = Client(port={port})\nclient.connect({seconds(20)})\n",
    )
    assert traceback.functions[:2] == ["main.py:<module>", "securemqtt.client:connect"]
    assert traceback.functions[-1].startswith("securemqtt.transport.")
    traceback.check_explained("ConnectionRefused", f"localhost:{port} refused the connection [")


def test_another_devices_key_on_a_board(devices: Devices, authority: Authority) -> None:
    key = "/secure/device.key.der"
    own = devices.board.read(key)
    devices.board.put(key, authority.issue_device("user-other", renew=True).key_der())
    try:
        traceback = fail(devices, "from securemqtt import Client\n\nclient = Client()\n")
    finally:
        devices.board.put(key, own)
    assert traceback.functions[:2] == ["main.py:<module>", "securemqtt.face:__init__"]
    traceback.check_explained("KeyMismatch", f"{key} is not the key of ")


def test_a_board_shows_what_a_client_has(devices: Devices) -> None:
    program = """\
from securemqtt import Client

help(Client)
print("dir", sorted(dir(Client)))
print(hasattr(Client, "subscribe"), hasattr(Client, "subscrbe"))
print(Client.__name__, Client.__module__)
"""
    printed = devices.run("board", program)
    own, shared = (
        {
            node.name
            for one in ast.parse(source_of(module)).body
            if isinstance(one, ast.ClassDef)
            for node in one.body
            if isinstance(node, ast.FunctionDef)
        }
        for module in ("securemqtt.client", "securemqtt.face")
    )
    helped = dict(re.findall(r"^  (\w+) -- (.*)$", printed, re.MULTILINE))
    assert own - set(helped) == set()  # its `help` looks into no base class
    assert helped["publish"].startswith("<function publish at ")
    shown = ast.literal_eval(re.search(r"^dir (.*)$", printed, re.MULTILINE)[1])
    assert {name for name in shown if not name.startswith("__")} == {
        name for name in own | shared if not name.startswith("__")
    }
    assert printed.endswith("True False\nClient securemqtt.client\n")


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_errors_are_imported_and_caught_by_class_everywhere(
    interpreter: str, devices: Devices
) -> None:
    program = f"""\
from securemqtt import Client, log_to
from securemqtt.errors import *

kinds = [kind for kind in list(globals().values()) if isinstance(kind, type)]
print(len([kind for kind in kinds if issubclass(kind, SecureMQTTError)]))
print(ConnectionRefused.__bases__ == (NetworkError,), InvalidTopic.__name__)
log_to(lambda level, text: None)
try:
    Client(port="x")
except BundleError:
    print("is no BundleError")
except UsageError as error:
    print(type(error) is UsageError, error.transient, error)
client = Client(port={free_port()})
try:
    client.publish("a/+", 1)
except (NetworkError, UsageError) as error:
    print(type(error).__name__, error.what, error.remedy != "", error.code)
try:
    client.connect(20)
except NetworkError as error:
    print(type(error) is ConnectionRefused, error.transient, str(error) == error.args[0])
    print(error.cause)
"""
    printed = devices.run(interpreter, program).splitlines()
    assert printed == devices.run("cpython", program).splitlines()
    assert printed[0] == str(source_of("securemqtt.errors").count("\nclass "))
    assert printed[1] == "True InvalidTopic"
    assert printed[2].startswith("True False port must be ") and "What to do: " in printed[2]
    assert printed[3].startswith("InvalidTopic ") and printed[3].endswith(" True None")
    assert printed[4] == "True True True"
