"""What a listener on the wire gets, seen by tshark: TLS, of the versions and ciphers promised, and
nothing of what is said inside.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.interpreters.micropython import micropython_command, micropython_environment
from support.network.net import free_port, wait_until
from support.requirements import missing, require_program
from support.speed import seconds

TLS_1_2, TLS_1_3 = "0x0303", "0x0304"
SECRET = "the-cellar-key-is-under-the-mat"

SENDER = f"""
import sys
from securemqtt import Client
client = Client(sys.argv[1])
with client:
    assert client.publish("~/{SECRET}", {{"note": "{SECRET}"}}).wait({seconds(20)})
"""
SENDER_OVER_ASYNCIO = f"""
import asyncio, sys
from securemqtt.aio import Client
async def main():
    async with Client(sys.argv[1]) as client:
        delivery = await client.publish("~/{SECRET}", {{"note": "{SECRET}"}})
        assert await delivery.wait({seconds(20)})
asyncio.run(main())
"""


def tls_versions(capture: Capture, message: int) -> set[str]:
    """Return the versions of TLS that a kind of message names: 1 the client's, 2 the server's.

    With TLS 1.3 those that count are in an extension, and the one in the old place stays at 1.2.
    """
    only = f"tls.handshake.type == {message}"
    lines = capture.fields(only, "tls.handshake.extensions.supported_version") or capture.fields(
        only, "tls.handshake.version"
    )
    return {version for line in lines for version in line.split(",")}


def is_strong(cipher: int) -> bool:
    """Return True if a cipher suite is ECDHE with AES-GCM, AES-CCM or ChaCha20-Poly1305, or one of
    TLS 1.3 (RFC 9325, section 4.2).
    """
    return cipher >> 8 in (0x13, 0xCC) or 0xC02B <= cipher <= 0xC030 or 0xC0AC <= cipher <= 0xC0AF


class Capture:
    """What went over one port of loopback."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        self._path = path
        self._process = process

    def fields(self, only: str, field: str, *options: str) -> list[str]:
        """Return one field of each packet that the display filter `only` lets through."""
        command = [
            require_program("tshark"),
            "-r",
            str(self._path),
            "-Y",
            only,
            "-T",
            "fields",
            "-e",
            field,
            *options,
        ]
        output = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds(30), check=False
        ).stdout
        return [line for line in output.splitlines() if line]

    def wait_for_end(self) -> None:
        """Wait until the end of the connection has been captured, and stop."""
        wait_until(
            lambda: self.fields("tcp.flags.fin == 1 || tcp.flags.reset == 1", "tcp.stream"),
            seconds(20),
            "the connection's end in the capture",
        )
        self._process.send_signal(signal.SIGINT)
        self._process.wait(seconds(20))

    def holds(self, text: str) -> bool:
        """Return True if the bytes that went over the wire hold `text`."""
        return text.encode() in self._path.read_bytes()


@contextmanager
def capturing(port: int, path: Path) -> Iterator[Capture]:
    """Capture what goes over `port`; fails in CI, and skips elsewhere, where that is not
    allowed.
    """
    command = [require_program("tshark"), "-i", "lo", "-f", f"tcp port {port}", "-w", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if "Capturing on" in line:
                break
        else:
            missing(
                "the right to capture on loopback (" + said.strip()[-200:] + ")",
                "tshark, and run as root or in the group wireshark",
            )
        wait_until(path.exists, seconds(20), "the capture's file")
        yield Capture(path, process)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("sender", [SENDER, SENDER_OVER_ASYNCIO], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("interpreter", ["cpython", "micropython"])
def test_nothing_but_tls_is_seen(
    interpreter: str, sender: str, broker: BrokerProcess, authority: Authority, tmp_path: Path
) -> None:
    board = interpreter == "micropython"
    bundle = write_bundle(
        tmp_path / "bundle", authority, f"wire-{interpreter}", port=broker.port, board=board
    )
    command, environment = (
        (micropython_command(), micropython_environment())
        if board
        else ([sys.executable], dict(os.environ))
    )
    with capturing(broker.port, tmp_path / "wire.pcapng") as capture:
        subprocess.run(
            [*command, "-c", sender, str(bundle)], env=environment, check=True, timeout=seconds(60)
        )
        capture.wait_for_end()

        assert set(
            capture.fields("tls.handshake.type == 1", "tls.handshake.extensions_server_name")
        ) == {"localhost"}
        # MicroPython's own builds have no TLS 1.3; Debian's, with the system's mbedTLS, has it.
        offered, negotiated = tls_versions(capture, 1), tls_versions(capture, 2)
        assert offered <= {TLS_1_2, TLS_1_3}
        assert negotiated == {max(offered)}
        assert board or TLS_1_3 in offered
        ciphers = [
            int(cipher, 16)
            for cipher in capture.fields("tls.handshake.type == 2", "tls.handshake.ciphersuite")
        ]
        assert ciphers and all(map(is_strong, ciphers))
        assert capture.fields("tls.app_data", "frame.number"), "TLS carried something"
        assert not capture.holds(SECRET)
        assert not capture.fields("mqtt", "frame.number", "-d", f"tcp.port=={broker.port},tls")


def test_the_same_search_finds_what_goes_in_clear(tmp_path: Path) -> None:
    port = free_port()
    configuration = tmp_path / "clear.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    broker = subprocess.Popen(
        [require_program("mosquitto"), "-c", str(configuration)], stderr=subprocess.DEVNULL
    )
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "clear")
    try:
        with capturing(port, tmp_path / "wire.pcapng") as capture:

            def connected() -> bool:
                try:
                    return client.connect("127.0.0.1", port) == mqtt.MQTT_ERR_SUCCESS
                except OSError:
                    return False

            wait_until(connected, seconds(20), "the plaintext broker")
            client.loop_start()
            client.publish(SECRET, SECRET, 1).wait_for_publish(seconds(20))
            client.disconnect()
            client.loop_stop()
            capture.wait_for_end()
            assert capture.holds(SECRET)
    finally:
        broker.kill()
        broker.wait()
