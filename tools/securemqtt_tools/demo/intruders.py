"""Checks: whoever must not get in does not, and is told why; whoever is in cannot reach beyond what
is his.
"""

from __future__ import annotations

from securemqtt import Client, Message
from securemqtt.errors import (
    BrokerError,
    ClientCertificateExpired,
    ClientCertificateMissing,
    ClientCertificateRefused,
    ClientCertificateRevoked,
    NotAuthorised,
)
from securemqtt_tools.broker.kinds import AMQTT, HIVEMQ, RABBITMQ
from securemqtt_tools.demo import plaintext
from securemqtt_tools.demo.bad_clients import bundle_for, neighbour, refusal, words
from securemqtt_tools.demo.environment import (
    DEVICE_ID,
    EXPIRED_ID,
    LOST_ID,
    NEIGHBOUR_ID,
    Environment,
    past,
)
from securemqtt_tools.demo.failure import Failed, wait_for
from securemqtt_tools.pki import Authority

_FORGED = 999_999
_READINGS = 5


def no_certificate(environment: Environment) -> str:
    """Whoever trusts the broker, but has nothing to show for himself but a password."""
    return words(
        refusal(bundle_for(environment, DEVICE_ID, None, "nobody"), ClientCertificateMissing)
    )


def foreign_certificate(environment: Environment) -> str:
    """A certificate in the device's own name, from a CA that has the same name as ours."""
    issued = environment.foreign.issue_device(DEVICE_ID)
    return words(
        refusal(bundle_for(environment, DEVICE_ID, issued, "foreigner"), ClientCertificateRefused)
    )


def expired_certificate(environment: Environment) -> str:
    """A certificate of ours that has run out."""
    before = Authority.open(
        environment.authority.directory, passphrase=environment.passphrase, clock=past
    )
    issued = before.issue_device(EXPIRED_ID, days=30)
    # Java does not say why.
    expected = (
        ClientCertificateRefused
        if environment.broker.engine == HIVEMQ
        else ClientCertificateExpired
    )
    return words(refusal(bundle_for(environment, EXPIRED_ID, issued, "latecomer"), expected))


def revoked_certificate(environment: Environment) -> str:
    """A device that gets in, is revoked while it is connected, and must be out and stay out."""
    device_id = LOST_ID
    bundle = bundle_for(
        environment, device_id, environment.authority.issue_device(device_id), device_id
    )
    with Client(str(bundle), status=False) as client:
        environment.authority.revoke(device_id, reason="keyCompromise")
        environment.broker.config.refresh(environment.authority)
        environment.broker.reload()
        wait_for(
            lambda: not client.connected, "the broker to end the connection of a revoked device"
        )
    # asyncio, which the embedded broker is built on, hangs up without TLS's word for it, so the
    # client cannot know that much. HiveMQ's extension answers the CONNECT.
    expected = {AMQTT: ClientCertificateRefused, HIVEMQ: NotAuthorised}.get(
        environment.broker.engine, ClientCertificateRevoked
    )
    return words(refusal(bundle, expected))


def without_tls(environment: Environment) -> str:
    """A client that speaks MQTT in clear to the broker's port."""
    why = plaintext.exchange(
        environment.broker.port, "plain", f"devices/{DEVICE_ID}/reading", b"{}"
    )
    if why is None:
        raise Failed("it could publish")
    return f"the broker hung up on it: {why}"


def forged_messages(environment: Environment) -> str:
    """A neighbour sends a reading and a command in the device's name: judged by whether they
    arrive.
    """
    answers = f"devices/{DEVICE_ID}/answer/interval"
    before = len(environment.subscriber.payloads(answers))
    # RabbitMQ ends the connection for it, again and again if it came again and again.
    qos = 0 if environment.broker.engine == RABBITMQ else 1
    with neighbour(environment) as client:
        client.publish(f"devices/{DEVICE_ID}/reading", {"number": _FORGED}, qos=qos)
        client.publish(f"devices/{DEVICE_ID}/command/interval", "3600", qos=qos)
        client.publish("~/reading", {"number": 1})
        client.flush()
        # Its own reading, which it may send, was the last: once that is there, the others would be.
        environment.until(
            lambda: environment.subscriber.numbers(NEIGHBOUR_ID),
            "the neighbour's own reading at the Pi",
        )
    environment.new_readings(_READINGS)
    if _FORGED in environment.subscriber.numbers(DEVICE_ID):
        raise Failed("the forged reading reached the Pi")
    if len(environment.subscriber.payloads(answers)) > before:
        raise Failed("the forged command reached the device")
    return "its own reading came through, the forged ones did not"


def eavesdropping(environment: Environment) -> str:
    """A neighbour subscribes to the device's topics, and to everything: judged by what is
    delivered, since a broker may promise anything.
    """
    heard: list[str] = []
    echo = f"devices/{NEIGHBOUR_ID}/echo"
    foreign_filters = [f"devices/{DEVICE_ID}/#", "devices/+/reading", "#"]
    if environment.broker.engine == RABBITMQ:  # which ends the connection for each
        for topic_filter in foreign_filters:
            with neighbour(environment) as client:
                client.subscribe(topic_filter, lambda message: heard.append(message.topic))

                def is_cut_off(client: Client = client) -> bool:
                    client.poll()
                    return not client.connected

                environment.until(is_cut_off, "the broker to end the connection")
        foreign_filters = []
    with neighbour(environment) as client:
        for topic_filter in (*foreign_filters, "~/echo"):
            client.subscribe(topic_filter, lambda message: heard.append(message.topic))
        environment.new_readings(_READINGS)
        client.publish("~/echo", "still there")

        def echoed() -> bool:
            client.poll()
            return echo in heard

        wait_for(echoed, "the neighbour's own message")
    foreign = set(heard) - {echo}
    if foreign:
        raise Failed(f"it heard {', '.join(sorted(foreign))}")
    return (
        f"of {_READINGS} readings and more that passed meanwhile it got none, its own messages "
        f"it did"
    )


def takeover(environment: Environment) -> str:
    """A neighbour connects under the device's client id: the device must stay connected, and its
    messages its own.
    """
    connections = environment.device_line.accepted
    heard: list[Message] = []
    said = "the broker took it for what its certificate says"
    try:
        with neighbour(environment, client_id=DEVICE_ID) as thief:
            thief.subscribe("~/#", heard.append)
            environment.new_readings(_READINGS)
            thief.wait(0)
    except BrokerError as error:
        said = words(error)
        environment.new_readings(_READINGS)
    if environment.device_line.accepted != connections:
        raise Failed("the device lost its connection")
    if heard:
        raise Failed(f"it got {heard[0].topic}")
    return f"{said}; the device stayed connected"
