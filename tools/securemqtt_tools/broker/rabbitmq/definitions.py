"""Users and what each of them may, as RabbitMQ imports it: JSON, all in one go."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from securemqtt_tools.broker.config import Limits
from securemqtt_tools.broker.rabbitmq.topics import read_pattern, write_pattern
from securemqtt_tools.broker.rules import Access

VHOST = "/"
EXCHANGE = "amq.topic"
# A client's two queues are this, its client id, and qos0 or qos1.
QUEUE = "mqtt-subscription-"


def user_definitions(access: Mapping[str, Access]) -> bytes:
    """Return the users, none of whom has a password, and their permissions."""
    return json.dumps(_users(access)).encode()


def all_definitions(access: Mapping[str, Access], limits: Limits) -> bytes:
    """Return the users and what else there is: the virtual host, and the limits."""
    policy = {
        "vhost": VHOST,
        "name": "sessions",
        "pattern": f"^{re.escape(QUEUE)}",
        "apply-to": "queues",
        "priority": 0,
        "definition": {
            "max-length": limits.queued_messages,
            "max-length-bytes": limits.queued_bytes,
            "overflow": "drop-head",
        },
    }
    most = {
        "vhost": VHOST,
        "component": "vhost-limits",
        "name": "limits",
        "value": {"max-connections": limits.connections},
    }
    values: dict[str, object] = {
        "vhosts": [{"name": VHOST}],
        "policies": [policy],
        "parameters": [most],
        **_users(access),
    }
    return json.dumps(values).encode()


def _users(access: Mapping[str, Access]) -> dict[str, object]:
    return {
        "users": [
            # No password has an empty hash: who has none can enter by a certificate alone.
            {
                "name": one,
                "password_hash": "",
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
                "limits": {},
            }
            for one in access
        ],
        "permissions": [_permissions(one) for one in access],
        "topic_permissions": [
            {
                "user": one,
                "vhost": VHOST,
                "exchange": EXCHANGE,
                "read": read_pattern(may),
                "write": write_pattern(may),
            }
            for one, may in access.items()
        ],
    }


def _permissions(identity: str) -> dict[str, str]:
    """Only the queues of the client id that is its own name, which nobody else can touch."""
    own = f"{re.escape(QUEUE + identity)}qos[01]"
    both = rf"\A(?:{own}|{re.escape(EXCHANGE)})\z"
    return {
        "user": identity,
        "vhost": VHOST,
        "configure": rf"\A{own}\z",
        "write": both,
        "read": both,
    }
