"""Checks: the relay turns on its clients as a man in the middle, and what could be read on the wire
all the time.
"""

from __future__ import annotations

from securemqtt_tools.demo import plaintext
from securemqtt_tools.demo.detector import MARKERS, is_tls, readable
from securemqtt_tools.demo.environment import (
    BROKER_NAMES,
    DEVICE_ID,
    DEVICE_LINE,
    SUBSCRIBER_LINE,
    Environment,
)
from securemqtt_tools.demo.exchange import start_subscriber
from securemqtt_tools.demo.failure import Failed, wait_for
from securemqtt_tools.demo.machine_in_the_middle import MachineInTheMiddle
from securemqtt_tools.demo.programs import diagnosis

_CONTROL = "control"


def place_machine_in_the_middle(environment: Environment) -> str:
    """Put the machine in the middle into its place, and show that it is a danger to whoever trusts
    the wrong CA.
    """
    middle = environment.enter(
        MachineInTheMiddle(environment.directory, environment.foreign, BROKER_NAMES)
    )
    middle.prove()
    environment.subscriber.stop()
    environment.machine_in_the_middle = middle
    environment.subscriber_line.target_port = environment.device_line.target_port = middle.port
    return "a client that trusts the wrong CA tells it a secret"


def fool_subscriber(environment: Environment) -> str:
    """Start the Pi's program behind the machine in the middle: it must say the reason, without a
    byte of MQTT. It would try for ever, so it is ended.
    """
    middle = environment.machine_in_the_middle
    visitors = middle.visitors
    subscriber = start_subscriber(environment, "subscriber-behind-the-middle.log")
    wait_for(
        lambda: diagnosis(subscriber.text()), "the Pi's program to say why it does not connect"
    )
    subscriber.stop()
    return _refusal(middle, visitors, subscriber.text())


def fool_device(environment: Environment) -> str:
    """Start the device behind the machine in the middle: it must say the reason, without a byte of
    MQTT.
    """
    device, middle = environment.device, environment.machine_in_the_middle
    visitors = middle.visitors
    device.power_off()
    printed = len(device.text())
    device.power_on()
    wait_for(
        lambda: diagnosis(device.text()[printed:]), f"{device.title} to say why it does not connect"
    )
    return _refusal(middle, visitors, device.text()[printed:])


def tap(environment: Environment) -> str:
    """Search all that the relay has seen of device and Pi."""
    streams = [
        stream
        for stream in environment.relay.streams
        if stream.line in (DEVICE_LINE, SUBSCRIBER_LINE) and stream.content
    ]
    if not environment.relay.complete:
        raise Failed("there was more on the wire than the relay can keep")
    if {stream.line for stream in streams} != {DEVICE_LINE, SUBSCRIBER_LINE}:
        raise Failed("the relay has not seen both of them")
    found = readable(streams)
    if found:
        raise Failed(f"it could read {_quoted(found)}")
    if not all(map(is_tls, streams)):
        raise Failed("there was something on the wire that is not TLS")
    size = sum(len(stream.content) for stream in streams)
    return f"{len(streams) // 2} connections, {size / 1000:.0f} kB, all of it in TLS records"


def control(environment: Environment) -> str:
    """Send a reading of the device's without TLS through the relay: the same search must find it,
    in both directions.
    """
    topic = f"devices/{DEVICE_ID}/reading"
    payload = (environment.subscriber.payloads(topic) or ['{"number": 1, "celsius": null}'])[-1]
    line = environment.relay.line(_CONTROL, plaintext.PlaintextBroker(environment.background).port)
    problem = plaintext.exchange(line.port, "control", topic, payload.encode())
    if problem:
        raise Failed(f"the exchange without TLS did not come off: {problem}")
    streams = [stream for stream in environment.relay.streams if stream.line == _CONTROL]
    expected = {
        marker for marker in MARKERS if marker in topic.encode() or marker in payload.encode()
    }
    for stream in streams:
        missed = expected - readable([stream])
        if missed or is_tls(stream):
            raise Failed(f"the search does not find {_quoted(missed)}")
    return f"it reads {_quoted(expected)}"


def exposed(environment: Environment) -> str | None:
    """Say what a tap learns all the same: with TLS 1.2, all that MicroPython has, certificates
    cross in clear (RFC 5246 §7.4.6).
    """
    if not readable(
        [stream for stream in environment.relay.streams if stream.line == DEVICE_LINE],
        [DEVICE_ID.encode()],
    ):
        return None
    return (
        f"A tap does learn who is there: the board speaks TLS 1.2, where its certificate, and "
        f"so the id {DEVICE_ID}, crosses in clear."
    )


def _refusal(middle: MachineInTheMiddle, visitors_before: int, text: str) -> str:
    if middle.visitors == visitors_before:
        raise Failed("it did not come to the machine in the middle at all")
    middle.check_unheard()
    reason = diagnosis(text)
    if reason is None:
        raise Failed("it did not say why")
    return reason


def _quoted(markers: set[bytes]) -> str:
    return ", ".join(sorted(marker.decode(errors="replace") for marker in markers))
