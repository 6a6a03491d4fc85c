"""Presets against stand-ins for the clouds, over real TLS: what a provider does not take never
leaves the device, on either interpreter, and what it takes arrives.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from integration.test_own_broker import INTERPRETERS, READING, Place, programs
from securemqtt import Client
from securemqtt.errors import SecureMQTTError
from securemqtt_tools.pki import Authority
from support.brokers.clouds import CLOUDS, Cloud, StandIn, cloud_stand_in
from support.brokers.mqtt import Peer, Refused
from support.identities.credentials import Credentials, issued_credentials
from support.speed import seconds

PROGRAM = (Path(__file__).parent / "programs" / "cloud.py").read_text()
DEEP = "/".join("a" * 8)  # AWS's deepest
# What each cloud does not take, and what is said of it: options, (topic, bytes, QoS, retain),
# (filter, QoS).
REFUSED = {
    "aws": (
        [
            ({"keep_alive_s": 29}, "takes keep_alive_s from 30 to 1200, not 29"),
            ({"keep_alive_s": 1201}, "takes keep_alive_s from 30 to 1200, not 1201"),
            ({"client_id": "x" * 129}, "takes a client_id of at most 128 bytes, and this has 129"),
            ({"client_id": "$a"}, "keeps what begins with $ to itself, client_id too"),
            ({"window": 101}, "takes a window of at most 100 messages, not 101"),
            ({"host": "127.0.0.1"}, "finds your broker by its name (SNI): host must be one"),
            ({"will": ["a", "x", 2]}, "takes QoS 0 to 1 only, not 2"),
        ],
        [
            (["~/a", 1, 2, False], "takes QoS 0 to 1 only, not 2"),
            ([DEEP + "/a", 1, 1, False], "takes topics of at most 8 levels, not "),
            (["é" * 129, 1, 1, False], "takes topics of at most 256 bytes, not "),
            (["$SYS/a", 1, 0, False], "keeps what begins with $ to itself, not "),
            (["a", 131072, 1, False], "does not fit into a packet of 131072"),
        ],
        [
            (["~/a", 2], "takes QoS 0 to 1 only, not 2"),
            ([DEEP + "/#", 1], "takes topics of at most 8 levels, not "),
        ],
    ),
    "azure": (
        [
            ({"keep_alive_s": 1161}, "takes keep_alive_s from 5 to 1160, not 1161"),
            ({"username": None, "password_file": None}, "and username: give username"),
            ({"status": True}, "takes no retained messages: retain=False, status=False"),
        ],
        [
            (["~/a", 1, 2, False], "takes QoS 0 to 1 only, not 2"),
            (["~/a", 1, 1, True], "takes no retained messages: retain=False, status=False"),
            (["/".join("a" * 16), 1, 1, False], "takes topics of at most 15 levels, not "),
            (["a", 524288, 1, False], "does not fit into a packet of 524288"),
        ],
        [(["/".join("a" * 16), 1], "takes topics of at most 15 levels, not ")],
    ),
    "hivemq-cloud": (
        [({"host": "::1"}, "finds your broker by its name (SNI): host must be one")],
        [],
        [],
    ),
    "emqx": (
        [
            ({"client_id": "x" * 1025}, "takes a client_id of at most 1024 bytes"),
            ({"username": None, "password_file": None}, "give username"),
            ({"password_file": None}, "knows a device by username and password: give password"),
            ({"port": 1883}, "1883 is for what is said in clear"),
        ],
        [(["a", 1048576, 1, False], "does not fit into a packet of 1048576")],
        [(["/".join("a" * 11), 1], "takes topics of at most 10 levels, not ")],
    ),
}


@pytest.fixture(scope="module")
def own(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Issue the stand-ins' certificate."""
    issued = authority.issue_server(["localhost"], renew=True)
    return issued_credentials(tmp_path_factory.mktemp("cloud"), issued)


@pytest.fixture(scope="module")
def ca(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cloud-ca") / "ca.pem"
    path.write_bytes(authority.root.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def stand_in(preset: str, own: Credentials, ca: Path) -> Iterator[StandIn]:
    with cloud_stand_in(CLOUDS[preset], own, ca) as running:
        yield running


@pytest.fixture
def place(interpreter: str, tmp_path: Path, authority: Authority, ca: Path) -> Place:
    place = Place(tmp_path, interpreter)
    issued = authority.issue_device("greenhouse-1", renew=True)
    place.put("ca.pem", ca.read_bytes())
    place.put("device.pem", issued.chain_pem())
    place.put("device.key.pem", issued.key_pem())
    place.put("password.txt", b"any\n")
    return place


def options_for(preset: str, port: int) -> dict[str, object]:
    """Return the options of a device at a stand-in, files by their names."""
    options: dict[str, object] = {"preset": preset, "host": "localhost", "port": port}
    options |= {"client_id": "greenhouse-1", "prefix": "home/greenhouse", "ca": "ca.pem"}
    if CLOUDS[preset].with_certificates:
        options |= {"certificate": "device.pem", "key": "device.key.pem"}
    if CLOUDS[preset].with_users:
        options |= {"username": "greenhouse-1", "password_file": "password.txt"}
    return options


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize("preset", sorted(REFUSED))
def test_what_a_cloud_does_not_take_never_leaves_the_device(
    preset: str, stand_in: StandIn, place: Place
) -> None:
    of_options, of_messages, of_filters = REFUSED[preset]
    setting = {
        "options": options_for(preset, stand_in.port),
        "options_to_refuse": [one for one, _ in of_options],
        "messages_to_refuse": [one for one, _ in of_messages],
        "filters_to_refuse": [one for one, _ in of_filters],
        "patience_s": seconds(30),
    }
    text = json.dumps(setting)
    if place.is_board:
        text = text.replace('.pem"', '.der"')
    place.put("setting.json", text.encode())
    printed = place.run(PROGRAM, stand_in.port).splitlines()
    said = [one for _, one in (*of_options, *of_messages, *of_filters)]
    for line, words in zip(printed, said, strict=False):
        assert words in line, line
        named = line.partition(": ")[2].startswith(("AWS ", "Azure ", "HiveMQ ", "EMQX "))
        assert named or line.startswith("MessageTooLarge: "), line
    assert printed[len(said) :] == ["acknowledged True 0"]
    assert stand_in.violations == []
    assert ("home/greenhouse/reading", 1, False) in stand_in.published
    assert {topic for topic, _, _ in stand_in.published} <= {
        "home/greenhouse/reading",
        "home/greenhouse/status",
    }
    assert stand_in.subscribed == ["home/greenhouse/command/+"]
    assert stand_in.names == ["localhost"]


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize(
    ("preset", "program"),
    [("aws", "aws.py"), ("azure", "azure.py"), ("hivemq-cloud", "hivemq.py"), ("emqx", "emqx.py")],
)
def test_the_pages_program_for_each_cloud(
    preset: str, program: str, stand_in: StandIn, place: Place
) -> None:
    printed = place.run(programs()[program], stand_in.port)
    assert printed == "acknowledged: True\n"
    assert (READING[0], 1, False) in stand_in.published
    assert stand_in.violations == [] and stand_in.names == ["localhost"]


@pytest.mark.parametrize(
    ("preset", "broken", "said"),
    [
        ("aws", {"keep_alive_s": 20}, "keep-alive 20"),
        ("aws", {"client_id": "x" * 129}, "client id of 129 bytes"),
        ("aws", {"topic": DEEP + "/a"}, "8 slashes"),
        ("aws", {"topic": "a" * 257}, "a topic of 257 bytes"),
        ("aws", {"qos": 2}, "QoS 2"),
        ("aws", {"size": 131072}, "a packet of 131077 bytes"),
        ("azure", {"retain": True}, "retain"),
        ("azure", {"qos": 2}, "QoS 2"),
        ("emqx", {"filter": "/".join("a" * 11)}, "10 slashes"),
    ],
)
def test_the_stand_in_enforces_its_limits_on_a_bare_client(
    broken: dict[str, object], said: str, stand_in: StandIn, authority: Authority, ca: Path
) -> None:
    """Control: what the presets keep back would have been found out."""
    directory = ca.parent
    device = issued_credentials(directory, authority.issue_device("bare", renew=True))
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(device.certificate, device.key)
    with Peer(stand_in.port, context) as peer, pytest.raises(Refused):
        peer.connect(
            str(broken.get("client_id", "bare")),
            keep_alive_s=int(str(broken.get("keep_alive_s", 60))),
            username="bare",
        )
        peer.subscribe(str(broken.get("filter", "a")))
        peer.publish(
            str(broken.get("topic", "a")),
            bytes(int(str(broken.get("size", 1)))),
            int(str(broken.get("qos", 1))),
            retain=bool(broken.get("retain")),
        )
        peer.drain()
    assert stand_in.violations == [said]


def test_on_port_443_aws_is_asked_for_by_alpn(
    own: Credentials, ca: Path, authority: Authority, tmp_path: Path
) -> None:
    device = issued_credentials(tmp_path, authority.issue_device("alpn", renew=True))
    options = {
        "preset": "aws",
        "host": "localhost",
        "client_id": "alpn",
        "ca": ca,
        "certificate": device.certificate,
        "key": device.key,
    }
    settings = [Client(**options, port=port)._connection.settings for port in (443, 8883)]
    assert [one.alpn for one in settings] == ["x-amzn-mqtt-ca", None]
    by_password = {"username": "u", "password": "p", "certificate": None, "key": None}
    custom = Client(**{**options, **by_password}, port=443)._connection.settings
    assert custom.alpn == "mqtt"
    cloud = dataclasses.replace(CLOUDS["aws"], alpn="x-amzn-mqtt-ca")
    with cloud_stand_in(cloud, own, ca) as stand_in:
        # The port of a test is a free one, so the name that 443 stands for is given.
        with Client(**options, port=stand_in.port, alpn=settings[0].alpn) as client:
            assert client.publish("a", b"x").wait(seconds(20))
        assert stand_in.violations == []
        with (
            Client(**options, port=stand_in.port, connect_timeout_s=seconds(1)) as without,
            pytest.raises(AssertionError),
        ):
            assert without.publish("a", b"x").wait(1)
        assert stand_in.violations and set(stand_in.violations) == {"ALPN None"}


@pytest.mark.parametrize("interpreter", ["micropython"])
def test_a_board_has_no_alpn_and_says_so(place: Place) -> None:
    program = programs()["aws.py"].replace("8883", "443").partition("with client:")[0]
    program = "try:\n" + "".join(f"    {line}\n" for line in program.splitlines())
    program += "except Exception as error:\n    print(type(error).__name__, error.what)\n"
    assert place.run(program, 443) == (
        "NotSupported AWS IoT Core asks for ALPN on port 443, which MicroPython does not have: "
        "use port 8883\n"
    )


def test_a_cloud_without_sni_is_not_reached(own: Credentials, ca: Path) -> None:
    """Control: the stand-in goes by the name in TLS, as clouds with many customers do."""
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    with cloud_stand_in(Cloud(), own, ca) as stand_in:
        with pytest.raises(Refused):
            Peer(stand_in.port, Nameless(context))  # type: ignore[arg-type]
        assert stand_in.names == [None]


class Nameless:
    """A context whose connections say no name."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: object
    ) -> ssl.SSLObject:
        """Leave the name out."""
        options.pop("server_hostname", None)
        return self._context.wrap_bio(incoming, outgoing, **options)  # type: ignore[arg-type]


def test_what_aws_counts_of_a_topic() -> None:
    options = {**options_for("aws", 443), "host": "mqtt.example.org"}
    del options["ca"], options["certificate"], options["key"]
    secrets = {"username": "u", "password": "p", "password_file": None, "system_trust": True}
    client = Client(**{**options, **secrets})  # type: ignore[arg-type]
    client.publish(DEEP, b"")
    client.publish("$aws/rules/mine/" + DEEP, b"")
    client.publish("a" * 256, b"")
    client.subscribe("$share/group/" + DEEP, print)
    for deep in ("$aws/rules/mine/" + DEEP + "/a", "$aws/" + DEEP):
        with pytest.raises(SecureMQTTError, match="at most 8 levels"):
            client.publish(deep, b"")
    with pytest.raises(SecureMQTTError, match="at most 8 levels"):
        client.subscribe("$share/group/" + DEEP + "/a", print)
    assert client.publish("a", b"", 1).topic == "a"
    with pytest.raises(SecureMQTTError, match="QoS 0 to 1 only"):
        client.publish("a", b"", 2)  # the topic is known by now


def test_azure_takes_websockets_on_a_port_of_their_own(own: Credentials) -> None:
    options = {"preset": "azure", "host": "mqtt.example.org", "client_id": "a", "username": "a"}
    options |= {"certificate": own.certificate, "key": own.key, "system_trust": True}
    for more, port in (
        ({}, 8883),
        ({"transport": "wss"}, 443),
        ({"transport": "wss", "port": 8443}, 8443),
    ):
        client = Client(**{**options, **more})  # type: ignore[arg-type]
        assert client._connection.settings.port == port
    with pytest.raises(SecureMQTTError, match="takes port 443 with transport='wss' only"):
        Client(**{**options, "port": 443})  # type: ignore[arg-type]
    with pytest.raises(SecureMQTTError, match="AWS IoT Core takes no transport=wss here"):
        Client(**{**options, "preset": "aws", "transport": "wss"})  # type: ignore[arg-type]


def test_aws_knows_a_device_by_its_certificate_or_asks_an_authoriser_of_yours() -> None:
    options = {"preset": "aws", "host": "mqtt.example.org", "client_id": "a", "username": "u"}
    options |= {"password": "p", "system_trust": True}
    with pytest.raises(SecureMQTTError, match="knows a device by certificate: give certificate"):
        Client(**options)  # type: ignore[arg-type]
    assert Client(**options, port=443)._connection.settings.alpn == "mqtt"  # type: ignore[arg-type]


def test_a_preset_takes_the_smaller_of_two_limits(own: Credentials) -> None:
    secrets = {"certificate": own.certificate, "key": own.key, "system_trust": True}
    options = {"preset": "aws", "host": "mqtt.example.org", "client_id": "a", **secrets}
    for given, held in ((1000, 1000), (1 << 20, 131072), (None, 131072)):
        client = Client(**options, max_publish_bytes=given)  # type: ignore[arg-type]
        assert client._connection.settings.max_publish_bytes == held
