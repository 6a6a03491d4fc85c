"""RabbitMQ's configuration, as Erlang terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.ciphers import TLS12_CIPHERS, TLS13_CIPHERS
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.rabbitmq.client_id import MODULE
from securemqtt_tools.broker.rabbitmq.definitions import EXCHANGE, VHOST

PLUGINS = "[rabbitmq_auth_mechanism_ssl,rabbitmq_mqtt,rabbitmq_web_mqtt].\n"
# Where our own Client, and other brokers, look for MQTT over WebSockets; RabbitMQ's own is /ws.
WEBSOCKETS_PATH = "/mqtt"
RABBIT, MQTT = "rabbit", "rabbitmq_mqtt"
NOTHING = {RABBIT: "", MQTT: ""}
# The file of settings that RabbitMQ reads first, and which is /etc's if there is none.
FIRST = """\
# Written by securemqtt broker; all other settings are in advanced.config.
log.file = false
log.default.level = notice
log.connection.level = info
"""


def advanced_config(
    config: BrokerConfig, program: Path, crls: Path, more: Mapping[str, str] = NOTHING
) -> bytes:
    """Return advanced.config: MQTT with mutual TLS, by itself and in WebSockets, and no other port.

    No port is open before our own module has run `program`: a session that is kept may have more
    than is allowed by now. `crls` is a directory with the CRL. `more` settings are by application.
    """
    tls = ", ".join(_tls(config.directory, crls))
    limits = config.limits
    listener = _address(config.bind, config.port)
    web = "[]"
    if config.websockets_port is not None:
        ip = f"{{ip, {erlang_string(config.bind)}}}, " if config.bind else ""
        web = f"[{ip}{{port, {config.websockets_port}}}, {tls}]"
    text = f"""\
%% Written by securemqtt broker; change it with that command.
[{{rabbit, [{more[RABBIT]}
   {{tcp_listeners, []}}, {{ssl_listeners, []}},
   {{definitions, [
      {{import_backend, {MODULE}}}, {{program, {erlang_string(str(program))}}},
      {{mqtt, [{listener}]}}, {{websockets, {web}}}]}},
   {{max_message_size, {limits.packet_bytes}}},
   {{auth_backends, [{{rabbit_auth_backend_internal, {MODULE}}}]}},
   {{ssl_cert_login_from, common_name}},
   {{ssl_options, [{tls}]}}]}},
 {{rabbitmq_mqtt, [{more[MQTT]}
   {{tcp_listeners, []}}, {{ssl_listeners, []}},
   {{allow_anonymous, false}}, {{ssl_cert_login, true}},
   {{vhost, {_binary(VHOST)}}}, {{exchange, {_binary(EXCHANGE)}}},
   {{prefetch, {limits.in_flight}}}, {{subscription_ttl, undefined}}]}},
 {{rabbitmq_web_mqtt, [
   {{tcp_config, []}}, {{ssl_config, []}},
   {{ws_path, {erlang_string(WEBSOCKETS_PATH)}}}]}}].
"""
    return text.encode()


def erlang_string(text: str) -> str:
    """Return a text as Erlang's source has it, in ASCII."""
    shown = (
        one if " " <= one <= "~" and one not in '"\\' else f"\\x{{{ord(one):x}}}" for one in text
    )
    return f'"{"".join(shown)}"'


def _tls(directory: Path, crls: Path) -> Iterable[str]:
    """Demand certificates of our authority, and ask the CRL at each handshake. No session can be
    resumed: who resumes one shows no certificate.
    """
    yield f"{{cacertfile, {erlang_string(str(directory / files.CA))}}}"
    yield f"{{certfile, {erlang_string(str(directory / files.SERVER))}}}"
    yield f"{{keyfile, {erlang_string(str(directory / files.SERVER))}}}"
    yield "{verify, verify_peer}, {fail_if_no_peer_cert, true}"
    yield "{versions, ['tlsv1.3', 'tlsv1.2']}"
    ciphers = (*TLS13_CIPHERS, *TLS12_CIPHERS)
    yield f"{{ciphers, [{', '.join(map(erlang_string, ciphers))}]}}"
    yield "{honor_cipher_order, true}, {client_renegotiation, false}, {reuse_sessions, false}"
    cache = f"{{internal, [{{dir, {erlang_string(str(crls))}}}]}}"
    yield f"{{crl_check, peer}}, {{crl_cache, {{ssl_crl_hash_dir, {cache}}}}}"


def _address(bind: str, port: int) -> str:
    return f"{{{erlang_string(bind)}, {port}}}" if bind else str(port)


def _binary(text: str) -> str:
    return f"<<{erlang_string(text)}>>"
