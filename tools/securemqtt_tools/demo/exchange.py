"""Checks: readings and commands between the device and the Pi, also over the broker's death."""

from __future__ import annotations

import json
import time

from securemqtt_tools.board.bundle import Settings
from securemqtt_tools.board.pi import PiOrder, provision_pi
from securemqtt_tools.board.places import LocalDirectory
from securemqtt_tools.broker.process import AMQTT
from securemqtt_tools.demo.failure import Failed, wait_for
from securemqtt_tools.demo.hub import HUB_ID, Hub
from securemqtt_tools.demo.provisioning import ShownSteps
from securemqtt_tools.demo.stage import BROKER_NAMES, DEVICE_ID, Stage

_HUB_BUNDLE = "hub"
EVERY_S = 0.25
_CLOCK_SET = "the clock is set to the time of provisioning"
_READINGS = 5
_AWAY_S = 4 * EVERY_S


def start_device(stage: Stage) -> str:
    """Start the Pi's program, then the device from cold: its first reading must reach the Pi."""
    stage.device.power_off()
    bundle = stage.directory / _HUB_BUNDLE
    settings = Settings(HUB_ID, BROKER_NAMES[1], stage.hub_line.port)
    provision_pi(PiOrder(settings, stage.authority, LocalDirectory(bundle)), ShownSteps(stage))
    stage.doing("waiting for the Pi's program")
    hub = stage.hub = start_hub(stage, "hub.log")
    wait_for(lambda: hub.subscriptions() or not hub.running, "the Pi's program to be connected")
    hub.check()
    stage.doing("the device starts")
    printed = len(stage.device.text())
    stage.device.power_on()
    stage.new_readings(1)
    reading = hub.payloads(f"devices/{DEVICE_ID}/reading")[0]
    clock = (
        ", its clock was wrong and was set" if _CLOCK_SET in stage.device.text()[printed:] else ""
    )
    return f"{reading}{clock}"


def start_hub(stage: Stage, log: str) -> Hub:
    """Start the Pi's program with the bundle that it has."""
    hub = Hub(stage.directory / _HUB_BUNDLE, stage.directory / log, EVERY_S)
    stage.at_end(hub.stop)
    hub.start()
    return hub


def command_device(stage: Stage) -> str:
    """The Pi's program has told the device how often to report: it must have answered, and do
    so.
    """
    topic = f"devices/{DEVICE_ID}/answer/interval"
    answer = stage.until(lambda: stage.hub.payloads(topic), "the device's answer")[0]
    if json.loads(answer)["interval_s"] != EVERY_S:
        raise Failed(f"the answer was {answer}")
    begin = time.monotonic()
    stage.new_readings(_READINGS)
    return f"{answer}, then {_READINGS} readings in {time.monotonic() - begin:.1f} s"


def kill_broker(stage: Stage) -> str:
    """Kill the broker while readings go on, and start it again: every reading must reach the Pi."""
    broker, line, hub = stage.broker, stage.device_line, stage.hub
    stage.new_readings(1)
    attempts, connections = line.accepted, hub.subscriptions()
    # The embedded broker's sessions end with it. What comes before the Pi has subscribed again
    # would go to nobody.
    line.shut = forgetful = broker.engine == AMQTT
    begin = time.monotonic()
    broker.kill()
    stage.doing("the broker is dead")
    try:
        stage.until(
            lambda: line.accepted > attempts and time.monotonic() > begin + _AWAY_S,
            "the device to try again",
        )
        broker.start()
        away_s = time.monotonic() - begin
        stage.doing("the broker is back")
        stage.until(lambda: hub.subscriptions() > connections, "the Pi to be connected again")
    finally:
        broker.start()
        line.shut = False
    stage.new_readings(_READINGS)
    first = "; its sessions ended with it, so the Pi was let in first" if forgetful else ""
    return f"{stage.account_for_readings()}; it was away for {away_s:.1f} s{first}"


def account_for_all(stage: Stage) -> str:
    """Wait until readings come again, then look whether every one since the start has come."""
    stage.new_readings(_READINGS)
    return stage.account_for_readings()
