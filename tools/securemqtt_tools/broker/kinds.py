"""The kinds of broker, by the names that `broker run --engine` and broker.json have for them."""

from __future__ import annotations

AUTO = "auto"
MOSQUITTO = "mosquitto"
AMQTT = "amqtt"
HIVEMQ = "hivemq"
RABBITMQ = "rabbitmq"
# What people call them, in whatever version.
TITLES = {
    MOSQUITTO: "Mosquitto",
    AMQTT: "the embedded broker",
    HIVEMQ: "HiveMQ",
    RABBITMQ: "RabbitMQ",
}
ENGINES = (AUTO, MOSQUITTO, AMQTT, HIVEMQ, RABBITMQ)
# Those that let in by certificate, and by nothing else.
CERTIFICATE_ALONE = (HIVEMQ, RABBITMQ)
# Those that start at once and need nothing but themselves.
SMALL = (AUTO, MOSQUITTO, AMQTT)
