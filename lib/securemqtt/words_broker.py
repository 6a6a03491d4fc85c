"""Cause and remedy of the broker's answers. See diagnose.py; {} is its host."""

_LOG = "look at the broker's log"

WORDS = {
    "BrokerError": ("a rule of the broker's", _LOG),
    "NotAuthorised": (
        "the certificate's name, or user name and password, do not entitle this client id",
        "use the id that the certificate was issued to; if the broker wants passwords: python "
        "tools/broker.py password ID",
    ),
    "ClientIdRefused": (
        "the client id is not the certificate's, or of a form that the broker does not take",
        "use the id that the device was provisioned with; remove client_id from the options of "
        "Client",
    ),
    "BrokerFull": (
        "the broker is starting or at its limit of connections; or a proxy in front of it finds "
        "no broker",
        "nothing, if it passes; else raise max_connections in mosquitto.conf, and look for "
        "devices that connect again and again",
    ),
    "ProtocolRefused": (
        "the broker does not speak MQTT 3.1.1 there, or not over WebSockets at this path",
        "compare port, transport and ws_path in config.json with the broker's listeners",
    ),
    "SubscriptionRefused": (
        "the broker's rules do not let this device read there",
        "subscribe under ~/, or give the id a role: python tools/broker.py grant ID operator",
    ),
    "MalformedPacket": (
        "what listens there is no MQTT broker, or a proxy alters what passes",
        "look at host and port in config.json; if it is a broker, update it",
    ),
}
