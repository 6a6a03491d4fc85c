"""What brokers in the cloud, and some others, allow, by the names that the option `preset` takes.

One table. A value is here only if the provider's own documentation has it; where that is, stands
beside it, and once more in docs/own-broker.md. What is missing has no limit here. Loaded when a
client with a preset is made, and forgotten again on a board.
"""

from .limits import Limits
from .platform import TAKES_DER, const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

    from .errors import SecureMQTTError

# title: what it is called in errors. id_bytes, topic_bytes: the longest in UTF-8. levels,
# filter_levels: how many a topic, or a filter, may have. packet_bytes: the largest PUBLISH.
# own_host: it is yours, at any address, or at several. reserved: what a topic, or an id, may not
# begin with, but for `own`. alpn: by port, with a certificate and without. needs: by what it knows
# a device, at least.
PRESETS: "dict[str, dict[str, Any]]" = {
    "aws": {
        "title": "AWS IoT Core",
        # https://docs.aws.amazon.com/general/latest/gr/iot-core.html, "message broker and protocol
        # limits"; the first four also in
        # https://aws.github.io/aws-iot-device-sdk-js-v2/node/enums/mqtt5.ClientExtendedValidationAndFlowControl.html
        "id_bytes": 128,
        "topic_bytes": 256,
        "levels": 8,
        "filter_levels": 8,
        "keep_alive_s": (30, 1200),
        "packet_bytes": 131072,
        "window": 100,
        "reserved": "$",
        "own": "$aws/",
        # https://docs.aws.amazon.com/iot/latest/developerguide/mqtt.html
        "highest_qos": 1,
        # https://docs.aws.amazon.com/iot/latest/developerguide/protocols.html; what it takes over
        # WebSockets is signed for each connection, which this library does not do.
        "transports": ("tls",),
        "alpn": {443: ("x-amzn-mqtt-ca", "mqtt")},
        "needs": ("certificate",),
    },
    "azure": {
        "title": "Azure Event Grid",
        # https://learn.microsoft.com/azure/event-grid/mqtt-support: a publish with the retain flag
        # or QoS 2 closes the connection. Retained messages are a preview since July 2025
        # (https://learn.microsoft.com/azure/event-grid/mqtt-retain), off in an older namespace.
        "highest_qos": 1,
        "retained": False,
        "keep_alive_s": (5, 1160),
        "packet_bytes": 524288,
        "needs": ("certificate", "username"),
        "wss_port": 443,
        # https://learn.microsoft.com/azure/event-grid/whats-new, May 2025
        "levels": 15,
        "filter_levels": 15,
    },
    # https://community.hivemq.com/t/frequently-asked-questions-hivemq-cloud/514: all of MQTT, no
    # numbers. Clusters share addresses, so the name goes along in TLS, as with all of these.
    "hivemq-cloud": {"title": "HiveMQ Cloud"},
    "emqx": {
        "title": "EMQX Cloud",
        # https://docs.emqx.com/en/cloud/latest/create/restriction.html (read in its Japanese form):
        # of a serverless deployment, which has the narrowest
        "id_bytes": 1024,
        "packet_bytes": 1048576,
        "filter_levels": 10,
        "needs": ("username", "password"),
    },
    # Our own, as `broker init --for rabbitmq` has it: QoS 2 would be QoS 1, and a message might
    # come twice (tests/security/test_rabbitmq.py).
    "rabbitmq": {"title": "RabbitMQ 3.10", "highest_qos": 1, "own_host": True},
}


def defaults(given: "dict[str, Any]") -> "dict[str, Any]":
    """Return the options that a preset sets where the program does not."""
    chosen: "dict[str, Any]" = {}
    preset = PRESETS.get(given["preset"]) if isinstance(given["preset"], str) else None
    if preset is None:  # config.py says so, with all that there are
        return chosen
    if not preset.get("retained", True):
        chosen["status"] = False
    if given.get("transport") == "wss" and "wss_port" in preset:
        chosen["port"] = preset["wss_port"]
    for port, names in preset.get("alpn", {}).items():
        if given.get("port") == port:
            chosen["alpn"] = names[0] if given.get("certificate") else names[1]
    return chosen


def apply(values: "dict[str, Any]") -> None:
    """Hold all options to the preset among them, and set `limits` and max_publish_bytes.

    Raise UsageError, InvalidTopic, or NotSupported for what this interpreter cannot.
    """
    preset = PRESETS[values["preset"]]
    title = preset["title"]
    wrong = _problem(preset, values)
    if wrong:
        raise _error(title + " " + wrong)
    if TAKES_DER and values["port"] in preset.get("alpn", {}):
        from .errors import NotSupported

        what = "{} asks for ALPN on port {}, which MicroPython does not have: use port 8883"
        raise NotSupported(what.format(title, values["port"]))
    values["limits"] = limits = Limits(title, preset)
    if values["will"]:
        topic, _, qos, retain = values["will"]
        limits.check(topic, qos, retain, False)
    size = preset.get("packet_bytes")
    if size:
        values["max_publish_bytes"] = min(values["max_publish_bytes"] or size, size)


def _problem(preset: "dict[str, Any]", values: "dict[str, Any]") -> str:
    """Return what a provider does not take of the options, in words behind its name."""
    host, client_id, keep_alive_s = values["host"], values["client_id"], values["keep_alive_s"]
    anywhere = preset.get("own_host", False)
    if values["hosts"] and not anywhere:
        return "has one name for its broker: host must be one, and no list"
    if not anywhere and (":" in host or host.replace(".", "").isdigit()):
        return "finds your broker by its name (SNI): host must be one, and no address"
    if values["transport"] not in preset.get("transports", ("tls", "wss")):
        return "takes no transport={} here".format(values["transport"])
    port = values["port"]
    custom = port in preset.get("alpn", {}) and values["username"]  # an authoriser of your own
    for name in preset.get("needs", ()):
        if not (values[name] or values.get(name + "_file") or custom):
            return "knows a device by {}: give {}".format(" and ".join(preset["needs"]), name)
    if port == 1883:
        return "speaks TLS on port 8883: 1883 is for what is said in clear"
    if port == preset.get("wss_port") and values["transport"] != "wss":
        return "takes port {} with transport='wss' only".format(port)
    lowest, highest = preset.get("keep_alive_s", (0, 65535))
    if not lowest <= keep_alive_s <= highest:
        what = "takes keep_alive_s from {} to {}, not {}"
        return what.format(lowest, highest, keep_alive_s)
    longest = preset.get("id_bytes", 65535)
    size = len(client_id.encode())
    if size > longest:
        return "takes a client_id of at most {} bytes, and this has {}".format(longest, size)
    if "reserved" in preset and client_id.startswith(preset["reserved"]):
        return "keeps what begins with {} to itself, client_id too".format(preset["reserved"])
    window = preset.get("window", 1000)
    if values["window"] > window:
        return "takes a window of at most {} messages, not {}".format(window, values["window"])
    return ""


def _error(what: str) -> "SecureMQTTError":
    from .errors import UsageError

    return UsageError(what)
