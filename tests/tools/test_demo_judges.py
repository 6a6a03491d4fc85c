"""What the demonstration judges by: each of its judges must be able to say no."""

from __future__ import annotations

import base64
import socket
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from securemqtt.errors import ClientCertificateMissing, ClientCertificateRevoked
from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.demo.bad_clients import refusal, write_bundle
from securemqtt_tools.demo.detector import is_tls, readable
from securemqtt_tools.demo.environment import DEVICE_ID, Environment
from securemqtt_tools.demo.failure import Failed, wait_for
from securemqtt_tools.demo.keysearch import files_with, keys_in, secret_bytes
from securemqtt_tools.demo.machine_in_the_middle import MachineInTheMiddle
from securemqtt_tools.demo.programs import diagnosis
from securemqtt_tools.demo.relay import Stream
from securemqtt_tools.demo.subscriber import Subscriber
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.keys import key_der, key_pem
from support.speed import seconds

CONNECT = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07control"
ALERT = b"\x15\x03\x03\x00\x02\x02\x30"


def stream(content: bytes) -> Stream:
    """Make the record of a connection."""
    return Stream("device", True, bytearray(content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", True),
        (ALERT, True),
        (ALERT * 3, True),
        (ALERT + ALERT[:-1], True),  # cut off where the broker was killed
        (ALERT + ALERT[:3], True),
        (CONNECT, False),
        (ALERT + CONNECT, False),
        (b"\x17\x03\x03\xff\xff", False),  # longer than a record can be
    ],
)
def test_tls_records(content: bytes, expected: bool) -> None:
    assert is_tls(stream(content)) is expected


def test_markers_are_found_wherever_they_are() -> None:
    hidden = stream(b"\x17\x03\x03\x00\x20" + b"devices/greenhouse-1/reading")
    assert readable([stream(ALERT), hidden]) == {b"devices/", b"/reading"}
    assert readable([stream(CONNECT)]) == {b"\x00\x04MQTT\x04"}
    assert readable([stream(ALERT)]) == set()


@pytest.mark.parametrize("before", range(4))
def test_private_key_is_found_in_any_form(tmp_path: Path, before: int) -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    secret = secret_bytes(key)
    forms = {
        "der": b"x" * before + key_der(key),
        "pem": b"x" * before + key_pem(key),
        "hex": secret.hex().upper().encode(),
        "base64": base64.encodebytes(b"x" * before + secret + b"y"),
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "another").write_bytes(key_pem(other))
    (tmp_path / "public").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert {path.name for path in files_with(secret, tmp_path)} == forms.keys()


def test_private_key_is_carved_out_of_flash() -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    image = b"\xff" * 1000 + key_der(key) + b"\x02\x01\x01\x04\x20" + b"\xff" * 1000
    assert keys_in(image, key.public_key()) == {secret_bytes(key)}
    assert keys_in(image, other.public_key()) == set()


def test_whoever_trusts_the_machine_in_the_middle_is_noticed(tmp_path: Path) -> None:
    foreign = Authority.create(tmp_path / "foreign", name="somebody", passphrase=None)
    with MachineInTheMiddle(tmp_path, foreign, ("localhost",)) as machine_in_the_middle:
        machine_in_the_middle.prove()
        machine_in_the_middle.check_unheard()
        context = ssl.create_default_context(
            cadata=foreign.root.public_bytes(Encoding.PEM).decode()
        )
        with (
            socket.create_connection(
                ("127.0.0.1", machine_in_the_middle.port), timeout=seconds(20)
            ) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as secured,
        ):
            secured.sendall(CONNECT)
        wait_for(
            lambda: machine_in_the_middle.heard == CONNECT, "the machine in the middle to hear it"
        )
        with pytest.raises(Failed, match="trusted by 1 of 1 and heard 21 bytes"):
            machine_in_the_middle.check_unheard()


def test_whoever_gets_in_is_noticed(
    authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    issued = authority.issue_device("demo-rightful")
    rightful = write_bundle(tmp_path / "rightful", authority, "demo-rightful", broker.port, issued)
    with pytest.raises(Failed, match="it got in"):
        refusal(rightful, ClientCertificateMissing)


def test_being_turned_away_for_another_reason_does_not_count(
    authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    nobody = write_bundle(tmp_path / "nobody", authority, "demo-nobody", broker.port, None)
    assert isinstance(refusal(nobody, ClientCertificateMissing), ClientCertificateMissing)
    with pytest.raises(Failed, match="another reason: ClientCertificateMissing"):
        refusal(nobody, ClientCertificateRevoked)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ([1, 2, 3], "1 to 3 in their order, no second copies"),
        ([1, 2, 2, 3, 2], "1 to 3 in their order, 2 second copies"),
        ([1, 2, 4, 7], "of 7 readings these are missing: 3, 5, 6"),
        ([2, 3], "of 3 readings these are missing: 1"),
        ([1, 3, 2], "not in their order"),
        ([], "no reading has reached the Pi"),
    ],
)
def test_readings_are_accounted_for(tmp_path: Path, numbers: list[int], verdict: str) -> None:
    log = tmp_path / "subscriber.log"
    log.write_text(
        "".join(f'devices/{DEVICE_ID}/reading {{"number": {number}}}\n' for number in numbers)
        + f"devices/{DEVICE_ID}/reading {{"
    )
    environment = Environment(tmp_path, "auto", lambda text: None)
    environment.subscriber = Subscriber(tmp_path, log, 1)
    if verdict.startswith("1 to"):
        assert environment.account_for_readings() == verdict
    else:
        with pytest.raises(Failed, match=verdict):
            environment.account_for_readings()


def test_what_needs_a_part_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="not tried: the broker is missing"):
        _ = Environment(tmp_path, "auto", lambda text: None).broker


def test_diagnosis_is_read_from_what_programs_print() -> None:
    said = "no CA that this device trusts has issued the certificate of mqtt.local:8883"
    rest = (
        ". Likely cause: somebody is posing as it. What to do: find out. Next attempt in 86.1 "
        "s.\r\n"
    )
    assert (
        diagnosis(
            f"MPY: soft reboot\r\nsecuremqtt info: joined\r\nsecuremqtt warning: {said} "
            f"[-9984]{rest}"
        )
        == said
    )
    assert diagnosis(f"{said}{rest}") == said
    assert diagnosis("securemqtt info: connected to mqtt.local:8883\n") is None
