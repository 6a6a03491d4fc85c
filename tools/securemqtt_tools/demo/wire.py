"""Checks: the relay turns on its clients as a man in the middle, and what could be read on the wire
all the time.
"""

from __future__ import annotations

from securemqtt_tools.demo import plaintext
from securemqtt_tools.demo.detector import MARKERS, is_tls, readable
from securemqtt_tools.demo.exchange import start_hub
from securemqtt_tools.demo.failure import Failed, wait_for
from securemqtt_tools.demo.impostor import Impostor
from securemqtt_tools.demo.programs import diagnosis
from securemqtt_tools.demo.stage import BROKER_NAMES, DEVICE_ID, DEVICE_LINE, HUB_LINE, Stage

_CONTROL = "control"


def place_impostor(stage: Stage) -> str:
    """Put the impostor into its place, and show that it is a danger to whoever trusts the wrong
    CA.
    """
    impostor = stage.enter(Impostor(stage.directory, stage.foreign, BROKER_NAMES))
    impostor.prove()
    stage.hub.stop()
    stage.impostor = impostor
    stage.hub_line.target_port = stage.device_line.target_port = impostor.port
    return "a client that trusts the wrong CA tells it a secret"


def fool_hub(stage: Stage) -> str:
    """Start the Pi's program behind the impostor: it must end with the reason, without a byte of
    MQTT.
    """
    impostor, visitors = stage.impostor, stage.impostor.visitors
    hub = start_hub(stage, "hub-behind-impostor.log")
    wait_for(lambda: not hub.running, "the Pi's program to give up")
    return _refusal(impostor, visitors, hub.text())


def fool_device(stage: Stage) -> str:
    """Start the device behind the impostor: it must say the reason, without a byte of MQTT."""
    device, impostor, visitors = stage.device, stage.impostor, stage.impostor.visitors
    device.power_off()
    printed = len(device.text())
    device.power_on()
    wait_for(
        lambda: diagnosis(device.text()[printed:]), f"{device.title} to say why it does not connect"
    )
    return _refusal(impostor, visitors, device.text()[printed:])


def tap(stage: Stage) -> str:
    """Search all that the relay has seen of device and Pi."""
    streams = [
        stream
        for stream in stage.relay.streams
        if stream.line in (DEVICE_LINE, HUB_LINE) and stream.content
    ]
    if not stage.relay.complete:
        raise Failed("there was more on the wire than the relay can keep")
    if {stream.line for stream in streams} != {DEVICE_LINE, HUB_LINE}:
        raise Failed("the relay has not seen both of them")
    found = readable(streams)
    if found:
        raise Failed(f"it could read {_quoted(found)}")
    if not all(map(is_tls, streams)):
        raise Failed("there was something on the wire that is not TLS")
    size = sum(len(stream.content) for stream in streams)
    return f"{len(streams) // 2} connections, {size / 1000:.0f} kB, all of it in TLS records"


def control(stage: Stage) -> str:
    """Send a reading of the device's without TLS through the relay: the same search must find it,
    in both directions.
    """
    topic = f"devices/{DEVICE_ID}/reading"
    payload = (stage.hub.payloads(topic) or ['{"number": 1, "celsius": null}'])[-1]
    line = stage.relay.line(_CONTROL, plaintext.PlaintextBroker(stage.background).port)
    problem = plaintext.exchange(line.port, "control", topic, payload.encode())
    if problem:
        raise Failed(f"the exchange without TLS did not come off: {problem}")
    streams = [stream for stream in stage.relay.streams if stream.line == _CONTROL]
    expected = {
        marker for marker in MARKERS if marker in topic.encode() or marker in payload.encode()
    }
    for stream in streams:
        missed = expected - readable([stream])
        if missed or is_tls(stream):
            raise Failed(f"the search does not find {_quoted(missed)}")
    return f"it reads {_quoted(expected)}"


def exposed(stage: Stage) -> str | None:
    """Say what a tap learns all the same: with TLS 1.2, all that MicroPython has, certificates
    cross in clear (RFC 5246 §7.4.6).
    """
    if not readable(
        [stream for stream in stage.relay.streams if stream.line == DEVICE_LINE],
        [DEVICE_ID.encode()],
    ):
        return None
    return (
        f"A tap does learn who is there: the board speaks TLS 1.2, where its certificate, and "
        f"so the id {DEVICE_ID}, crosses in clear."
    )


def _refusal(impostor: Impostor, visitors_before: int, text: str) -> str:
    if impostor.visitors == visitors_before:
        raise Failed("it did not come to the impostor at all")
    impostor.check_unheard()
    reason = diagnosis(text)
    if reason is None:
        raise Failed("it did not say why")
    return reason


def _quoted(markers: set[bytes]) -> str:
    return ", ".join(sorted(marker.decode(errors="replace") for marker in markers))
