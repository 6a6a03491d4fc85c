"""Promise 4 where memory is short, and that a diagnosis gives back what it takes."""

from __future__ import annotations

import subprocess

import pytest

from support.brokers.servers import after, tls_server
from support.identities.laboratory import RUN_S, SCENARIO, Device, Laboratory
from support.interpreters.micropython import compiled_library, micropython_command, umqtt_directory
from support.network.net import free_port
from support.packets import ACCEPTED

# Up to here a connection is impossible; above, it may do.
_TOO_LITTLE_BYTES = 10_000


@pytest.fixture(scope="module")
def small_board(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """Return a board with the library as provisioning compiles it, and a heap of which an
    application can leave it little.
    """
    path = f".frozen:{compiled_library(tmp_path_factory.mktemp('library'))}:{umqtt_directory()}"
    return Device("micropython", ("-X", "heapsize=200k"), ("env", f"MICROPYPATH={path}"))


# In small steps: wherever it is that memory runs out, it is told in words.
@pytest.mark.parametrize("left_bytes", range(5_000, 13_001, 200))
def test_application_that_leaves_too_little(
    lab: Laboratory, mosquitto_port: int, small_board: Device, left_bytes: int
) -> None:
    bundle = lab.bundle(small_board, mosquitto_port)
    report = small_board.run(bundle, left_bytes=left_bytes)
    if report is None:
        assert left_bytes > _TOO_LITTLE_BYTES
        return
    assert report.name == "OutOfMemory" and report.remedy
    assert report.transient
    assert "what the program keeps" in report.cause


@pytest.mark.parametrize("left_bytes", [*range(20_000, 40_000, 1000), 60_000])
def test_application_that_leaves_too_little_for_the_diagnosis(
    lab: Laboratory, mosquitto_port: int, small_board: Device, left_bytes: int
) -> None:
    report = small_board.run(
        lab.bundle(small_board, mosquitto_port, lab.foreign), left_bytes=left_bytes
    )
    assert report is not None
    if left_bytes == 60_000:
        assert report.name == "ClientCertificateRefused"
    elif report.name == "ConnectionLost":
        # Where there is no room even to look for the words, it says where they are.
        no_room = report.remedy == "see ConnectionLost in docs/errors.md"
        assert no_room or "too little memory to ask" in report.cause
    else:
        assert report.name in ("OutOfMemory", "ClientCertificateRefused")


@pytest.mark.parametrize("foreign", [False, True], ids=["refused", "alert"])
def test_a_diagnosis_gives_its_memory_back(
    lab: Laboratory, mosquitto_port: int, small_board: Device, foreign: bool
) -> None:
    bundle = lab.bundle(small_board, mosquitto_port if foreign else free_port(), lab.foreign)
    command = [
        *small_board.prefix,
        *micropython_command(*small_board.flags),
        str(SCENARIO.with_name("diagnose_again.py")),
    ]
    done = subprocess.run(
        [*command, str(bundle), "8"], capture_output=True, text=True, timeout=RUN_S, check=True
    )
    taken = [
        (int(size), name) for size, name in (line.split() for line in done.stdout.splitlines())
    ]
    assert {name for _, name in taken} == {
        "ClientCertificateRefused" if foreign else "ConnectionRefused"
    }
    # The first ones make the classes, and names are never given back.
    assert abs(taken[-1][0] - taken[2][0]) < 500, taken


def test_process_at_its_limit(lab: Laboratory) -> None:
    huge = b"\x30\xff\xff\xff\x7f\x00\x01a" + bytes(100)
    with tls_server(lab.context(), after(ACCEPTED + huge)) as port:
        pi = Device("cpython", limit_bytes=200 << 20)
        report = pi.fails(
            lab.bundle(pi, port),
            "OutOfMemory",
            stay_s=10,
            options={"max_packet_bytes": (256 << 20) - 1},
        )
    assert report.transient
