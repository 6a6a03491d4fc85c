"""What a device knows of its broker's rules: how large a message may be, and which topics are its
own to use. Over a connection in memory, see support/models/history.py.
"""

from securemqtt import log_to
from securemqtt.config import load
from securemqtt.protocol.topics import covers
from support.interpreters.either import raised
from support.models.history import History

# What a PUBLISH has at most beside topic and payload.
HEAD_BYTES = 9


def test_what_the_broker_does_not_take_is_refused_at_publish() -> None:
    with History(1, max_publish_bytes=300) as history:
        largest = 300 - HEAD_BYTES - len("a/b")
        history.client.publish("a/b", bytes(largest))
        error = raised("MessageTooLarge", history.client.publish, "a/b", bytes(largest + 1))
        assert "max_publish_bytes" in str(error) and "a/b" in str(error)
        # as bytes, not as characters
        umlauts = "ü" * 20
        history.client.publish(umlauts, bytes(300 - HEAD_BYTES - 40))
        raised("MessageTooLarge", history.client.publish, umlauts, bytes(300 - HEAD_BYTES - 39))
        assert history.client.pending == 2 and history.client.stats["dropped"] == 2


def test_what_the_mqtt_library_cannot_write_is_refused_at_publish() -> None:
    with History(1) as history:
        limit = history.client._connection.link.max_publish_bytes
        assert history.client._connection.max_publish_bytes == limit
        history.client._connection.max_publish_bytes = 1000  # as if that were it: memory is dear
        error = raised("MessageTooLarge", history.client.publish, "a", bytes(1000))
        assert "MQTT library" in str(error)


def _warnings() -> "list[str]":
    lines = []
    log_to(lambda level, text: lines.append(text) if level == "warning" else None)
    return lines


def test_a_topic_that_is_not_the_devices_own_is_warned_of_once_and_counted() -> None:
    history = History(
        1, may_publish=["devices/d/#"], may_subscribe=["devices/d/#", "c/+", "devices/+/x"]
    )
    try:
        lines = _warnings()
        for topic in ("~/a", "~", "devices/d/b/c"):
            history.client.publish(topic, b"")
        history.client.subscribe("~/command/+", print)
        history.client.subscribe("$share/group/~/x".replace("~", "devices/d"), print)
        history.client.subscribe("devices/+/x", print)
        assert lines == [] and history.client.stats["outside"] == 0
        for _ in range(3):
            history.client.publish("devices/e/a", b"")
        history.client.subscribe("devices/#", print)
        assert history.client.stats["outside"] == 4
        assert len(lines) == 1
        assert "devices/e/a" in lines[0] and "devices/d/#" in lines[0] and "role" in lines[0]
        assert "(~ is devices/d)" in lines[0]
    finally:
        history.close()


def test_the_prefix_is_what_the_rules_are_asked_for() -> None:
    history = History(1, prefix="home/hall", may_publish=["home/hall/#"])
    try:
        lines = _warnings()
        assert history.client.publish("~/a", b"").topic == "home/hall/a"
        history.client.subscribe("~/command/+", print)
        assert "home/hall/command/+" in history.client._connection.inbox.subscriptions
        assert lines == []
        history.client.publish("devices/d/a", b"")
        assert len(lines) == 1 and "(~ is home/hall)" in lines[0]
    finally:
        history.close()


def test_where_the_bundle_says_nothing_nothing_is_said() -> None:
    with History(1) as history:
        lines = _warnings()
        history.client.publish("anything", b"")
        history.client.subscribe("#", print)
        assert lines == [] and history.client.stats["outside"] == 0


def test_a_rule_covers_what_the_broker_would_carry_out() -> None:
    for rule, asked, covered in (
        ("devices/d/#", "devices/d/a/b", True),
        ("devices/d/#", "devices/d", True),
        ("devices/d/#", "devices/d/+/x", True),
        ("devices/d/#", "devices/#", False),
        ("devices/d/#", "devices/dd", False),
        ("devices/+/command/#", "devices/x/command/led", True),
        ("devices/+/command/#", "devices/+/command/#", True),
        ("devices/+/command/#", "devices/#", False),
        ("devices/+", "devices/#", False),
        ("#", "$SYS/broker", False),
        ("$SYS/#", "$SYS/broker", True),
        ("devices/d/#", "$share/g/devices/d/a", True),
        ("devices/d/#", "$share/g/devices/e/a", False),
        ("devices/d/#", "$share/g", False),  # a topic that a program may publish to
    ):
        assert covers(rule, asked) == covered, (rule, asked)


def test_the_rules_must_be_lists_of_filters() -> None:
    raised("UsageError", History, 1, may_publish=[1])
    raised("UsageError", History, 1, max_publish_bytes="large")


def test_a_preset_says_what_a_broker_of_your_own_does_not_do() -> None:
    """RabbitMQ at any address, at several, and never with QoS 2."""
    several = {"host": ["192.0.2.1", "mqtt.local"], "client_id": "a", "preset": "rabbitmq"}
    settings = load(None, several)
    assert len(settings.hosts) == 2
    limits = settings.limits
    limits.check("a/b", 1, True, False)
    for is_filter in (False, True):
        error = raised("UsageError", limits.check, "a/b", 2, False, is_filter)
        assert "RabbitMQ 3.10 takes QoS 0 to 1 only, not 2" in str(error)
