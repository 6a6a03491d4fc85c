"""Checks: readings and commands between the device and the Pi, also over the broker's death."""

from __future__ import annotations

import json
import time

from securemqtt_tools.broker.kinds import AMQTT, HIVEMQ, RABBITMQ
from securemqtt_tools.demo.bad_clients import neighbour
from securemqtt_tools.demo.environment import BROKER_NAMES, DEVICE_ID, NEIGHBOUR_ID, Environment
from securemqtt_tools.demo.failure import Failed, wait_for
from securemqtt_tools.demo.provisioning import ShownSteps
from securemqtt_tools.demo.subscriber import SUBSCRIBER_ID, Subscriber
from securemqtt_tools.provision.bundle import Settings
from securemqtt_tools.provision.pi.places import LocalDirectory
from securemqtt_tools.provision.pi.provisioning import PiOrder, provision_pi

_SUBSCRIBER_BUNDLE = "hub"
# How often the device reports. Its outbox holds 100 messages, and then drops the oldest: that has
# to last while the broker starts and both ends try again.
_EVERY_S = 0.25
_EVERY_S_WITH_JAVA_OR_ERLANG = 1.0
_CLOCK_SET = "the clock is set to the time of provisioning"
_READINGS = 5
_AWAY_S = 1.0


def every_s(environment: Environment) -> float:
    """Return how often the device is told to report with this broker."""
    is_slow = environment.broker.engine in (HIVEMQ, RABBITMQ)
    return _EVERY_S_WITH_JAVA_OR_ERLANG if is_slow else _EVERY_S


def start_device(environment: Environment) -> str:
    """Start the Pi's program, then the device from cold: its first reading must reach the Pi."""
    environment.device.power_off()
    bundle = environment.directory / _SUBSCRIBER_BUNDLE
    settings = Settings(SUBSCRIBER_ID, BROKER_NAMES[1], environment.subscriber_line.port)
    provision_pi(
        PiOrder(settings, environment.authority, LocalDirectory(bundle)), ShownSteps(environment)
    )
    environment.doing("waiting for the Pi's program")
    subscriber = environment.subscriber = start_subscriber(environment, "subscriber.log")
    if environment.broker.engine == RABBITMQ:
        _wait_until_heard(environment)
    else:
        wait_for(
            lambda: subscriber.subscriptions() or not subscriber.running,
            "the Pi's program to be connected",
        )
    subscriber.check()
    environment.doing("the device starts")
    printed = len(environment.device.text())
    environment.device.power_on()
    environment.new_readings(1)
    reading = subscriber.payloads(f"devices/{DEVICE_ID}/reading")[0]
    clock = (
        ", its clock was wrong and was set"
        if _CLOCK_SET in environment.device.text()[printed:]
        else ""
    )
    return f"{reading}{clock}"


def _wait_until_heard(environment: Environment) -> None:
    """Wait until the Pi's program has subscribed: RabbitMQ brings it nothing retained for a filter
    with wildcards, so it does not hear its own word that it is online.
    """
    subscriber = environment.subscriber
    with neighbour(environment) as client:

        def heard() -> bool:
            client.publish("~/hello", "is anybody there?")
            client.wait(_EVERY_S)
            return bool(subscriber.payloads(f"devices/{NEIGHBOUR_ID}/hello"))

        wait_for(lambda: heard() or not subscriber.running, "the Pi's program to be connected")


def start_subscriber(environment: Environment, log: str) -> Subscriber:
    """Start the Pi's program with the bundle that it has."""
    subscriber = Subscriber(
        environment.directory / _SUBSCRIBER_BUNDLE,
        environment.directory / log,
        every_s(environment),
    )
    environment.at_end(subscriber.stop)
    subscriber.start()
    return subscriber


def command_device(environment: Environment) -> str:
    """The Pi's program has told the device how often to report: it must have answered, and do
    so.
    """
    topic = f"devices/{DEVICE_ID}/answer/interval"
    answer = environment.until(
        lambda: environment.subscriber.payloads(topic), "the device's answer"
    )[0]
    if json.loads(answer)["interval_s"] != every_s(environment):
        raise Failed(f"the answer was {answer}")
    begin = time.monotonic()
    environment.new_readings(_READINGS)
    return f"{answer}, then {_READINGS} readings in {time.monotonic() - begin:.1f} s"


def kill_broker(environment: Environment) -> str:
    """Kill the broker while readings go on, and start it again: every reading must reach the Pi."""
    broker, line, subscriber = environment.broker, environment.device_line, environment.subscriber
    environment.new_readings(1)
    attempts, connections = line.accepted, subscriber.subscriptions()
    # The embedded broker's sessions end with it, and HiveMQ CE, when it is killed, forgets what it
    # has not written yet. What comes before the Pi has subscribed again would go to nobody.
    line.shut = forgetful = broker.engine in (AMQTT, HIVEMQ)
    begin = time.monotonic()
    broker.kill()
    environment.doing("the broker is dead")
    try:
        environment.until(
            lambda: line.accepted > attempts and time.monotonic() > begin + _AWAY_S,
            "the device to try again",
        )
        broker.start()
        away_s = time.monotonic() - begin
        environment.doing("the broker is back")
        if broker.engine != RABBITMQ:  # see above; what comes meanwhile waits in its queue
            environment.until(
                lambda: subscriber.subscriptions() > connections, "the Pi to be connected again"
            )
    finally:
        broker.start()
        line.shut = False
    environment.new_readings(_READINGS)
    first = "; its sessions ended with it, so the Pi was let in first" if forgetful else ""
    return f"{environment.account_for_readings()}; it was away for {away_s:.1f} s{first}"


def account_for_all(environment: Environment) -> str:
    """Wait until readings come again, then look whether every one since the start has come."""
    environment.new_readings(_READINGS)
    return environment.account_for_readings()
