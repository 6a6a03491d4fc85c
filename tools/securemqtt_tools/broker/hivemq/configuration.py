"""HiveMQ's configuration: listeners with mutual TLS, limits, and a log on its output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from securemqtt_tools.broker.ciphers import TLS12_CIPHERS, TLS13_CIPHERS
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.hivemq.stores import KEYSTORE, TRUSTSTORE
from securemqtt_tools.cli import FatalError

# Each message is a line, whatever it names that a client has chosen.
LOGBACK = r"""<configuration scan="false">
  <appender name="OUTPUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder>
      <pattern>%d{yyyy-MM-dd'T'HH:mm:ss}: %level %replace(%msg){'\p{Cntrl}+', ' '}%n%ex</pattern>
    </encoder>
  </appender>
  <root level="INFO">
    <appender-ref ref="OUTPUT"/>
  </root>
  <logger name="jetbrains.exodus" level="WARN"/>
  <logger name="com.google.common.util.concurrent.Futures.CombinedFuture" level="OFF"/>
  <logger name="oshi" level="ERROR"/>
  <logger name="event.client-disconnected" level="DEBUG"/>
</configuration>
"""
_ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  (what an empty `bind` of the settings means)


def render(config: BrokerConfig, directory: Path, password: str) -> str:
    """Return the configuration of HiveMQ CE. Raise FatalError for what it cannot be told."""
    if "${" in str(directory):
        raise FatalError(f"HiveMQ cannot use a directory with ${{ in its name: {directory}")
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<hivemq>", "<listeners>"]
    lines += _listener("tls-tcp-listener", config, config.port, directory, password)
    if config.websockets_port is not None:
        lines += _listener(
            "tls-websocket-listener", config, config.websockets_port, directory, password
        )
    lines += ["</listeners>", *_limits(config)]
    # Nobody else is told that it runs, or of whom.
    lines += ["<anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>"]
    lines += ["<persistence><mode>file</mode></persistence>", "</hivemq>"]
    return "\n".join(lines) + "\n"


def _listener(
    kind: str, config: BrokerConfig, port: int, directory: Path, password: str
) -> Iterator[str]:
    yield f"<{kind}>"
    yield _element("port", port)
    yield _element("bind-address", config.bind or _ALL_ADDRESSES)
    if kind == "tls-websocket-listener":
        yield "<path>/mqtt</path>"
        yield "<subprotocols><subprotocol>mqtt</subprotocol></subprotocols>"
    yield "<tls>"
    yield "<protocols><protocol>TLSv1.3</protocol><protocol>TLSv1.2</protocol></protocols>"
    yield "<cipher-suites>"
    for suite in (*TLS13_CIPHERS, *map(iana_name, TLS12_CIPHERS)):
        yield _element("cipher-suite", suite)
    yield "</cipher-suites>"
    yield "<client-authentication-mode>REQUIRED</client-authentication-mode>"
    yield "<keystore>"
    yield _element("path", directory / KEYSTORE)
    yield _element("password", password)
    yield _element("private-key-password", password)
    yield "</keystore>"
    yield "<truststore>"
    yield _element("path", directory / TRUSTSTORE)
    yield _element("password", password)
    yield "</truststore>"
    yield "</tls>"
    yield f"</{kind}>"


def _limits(config: BrokerConfig) -> Iterator[str]:
    limits = config.limits
    yield "<mqtt>"
    yield f"<queued-messages>{_element('max-queue-size', limits.queued_messages)}</queued-messages>"
    if limits.keep_alive_s:
        yield "<keep-alive>"
        yield _element("max-keep-alive", limits.keep_alive_s)
        yield "<allow-unlimited>false</allow-unlimited>"
        yield "</keep-alive>"
    yield f"<packets>{_element('max-packet-size', limits.packet_bytes)}</packets>"
    yield "</mqtt>"
    yield f"<restrictions>{_element('max-connections', limits.connections)}</restrictions>"


def iana_name(cipher: str) -> str:
    """Return OpenSSL's name of a cipher suite of TLS 1.2 as IANA and Java have it."""
    exchange, signature, *rest = cipher.split("-")
    if rest[0] == "CHACHA20":
        bulk = "CHACHA20_POLY1305_SHA256"
    else:
        bulk = "_".join((rest[0][:3], rest[0][3:], *rest[1:]))
    return f"TLS_{exchange}_{signature}_WITH_{bulk}"


def _element(name: str, value: object) -> str:
    return f"<{name}>{escape(str(value))}</{name}>"
