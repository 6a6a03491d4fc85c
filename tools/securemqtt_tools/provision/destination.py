"""Which broker a device goes to: our own, whose port and rules are known here, or another one."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.broker.config import SETTINGS, BrokerConfig
from securemqtt_tools.broker.kinds import RABBITMQ
from securemqtt_tools.broker.rules import covered, own_filter, prefix_covered
from securemqtt_tools.cli import FatalError, parse_whole_number
from securemqtt_tools.home import Home
from securemqtt_tools.pki.names import name_text, server_name, server_names
from securemqtt_tools.provision.bundle import Rules

PORT = 8883


@dataclass(frozen=True)
class Destination:
    """Host and port of a broker.

    `config` is our own broker's, if it is that; `names` are those of the one in our home, be it
    that or not. `remark` says why it seems not to be what was meant.
    """

    host: str
    port: int
    config: BrokerConfig | None = None
    names: tuple[str, ...] = ()
    remark: str | None = None


def find_destination(text: str, home: Path, is_foreign: bool) -> Destination:
    """Return where `--broker text` leads to; `is_foreign`: to none of ours, whatever it is called.

    Where no port is given, it is that of our own broker of this name, else 8883. Raise FatalError.
    """
    host, port = parse_broker(text)
    directory = Home(home).broker
    if is_foreign or not (directory / SETTINGS).exists():
        return Destination(host, port or PORT)
    config = BrokerConfig.open(directory)
    names = tuple(map(name_text, server_names(config.names)))
    if host not in names:
        remark = f"{host} is no name of your broker ({', '.join(names)})"
        return Destination(host, port or PORT, names=names, remark=remark)
    if port is None and config.port == 0:
        raise FatalError(
            "your broker takes its port when it first starts: run securemqtt broker run before, "
            "or give --broker HOST:PORT"
        )
    port = config.port if port is None else port
    ports = [one for one in (config.port, config.websockets_port) if one is not None]
    if port not in ports:
        remark = f"{port} is no port of your broker ({', '.join(map(str, ports))})"
        return Destination(host, port, names=names, remark=remark)
    return Destination(host, port, config, names)


def rules_for(
    device_id: str, config: BrokerConfig, keep_alive_s: int | None, prefix: str | None
) -> Rules:
    """Return what our own broker lets a device do.

    Raise FatalError for a keep-alive with which it lets nobody in, and a prefix that is not the
    device's to use.
    """
    allowed_s = config.limits.keep_alive_s
    if allowed_s and keep_alive_s is not None and keep_alive_s > allowed_s:
        raise FatalError(
            f"--keep-alive {keep_alive_s} is too long: the broker of {config.directory} allows "
            f"{allowed_s} s at most"
        )
    access = config.access(device_id)
    if prefix is not None and not prefix_covered(access.write, prefix):
        raise FatalError(
            f"--prefix {prefix}: your own broker lets {device_id} use {own_filter(device_id)} "
            "alone, so that all that begins with ~ would be forbidden: leave --prefix out"
        )
    may_publish, may_subscribe = (
        tuple(one for one in filters if not covered(access.denied, one))
        for filters in (access.write, access.read)
    )
    preset = RABBITMQ if config.engine == RABBITMQ else None
    return Rules(may_publish, may_subscribe, config.limits.packet_bytes, preset)


def parse_broker(text: str) -> tuple[str, int | None]:
    """Split HOST[:PORT], where an IPv6 address with a port is in brackets; as a URL, too, which is
    mqtts://HOST[:PORT]. The port is None where none is given.

    Raise FatalError for what is neither.
    """
    text = _without_scheme(text)
    host, separator, port = text, "", ""
    if not _is_address(text) and ":" in text:
        host, separator, port = text.rpartition(":")
    number = parse_whole_number(port) if separator else None
    if separator and (number is None or not 0 < number < 65536):
        raise FatalError(
            f"{text!r}: the broker's port must be a number from 1 to 65535, as in mqtt.local:{PORT}"
        )
    if _is_address(host):
        host = host.strip("[]")
    return str(server_name(host).value), number


def _without_scheme(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    if "@" in rest:  # not shown, since a password may be in it
        raise FatalError("--broker takes no user name or password: the certificate says who it is")
    if scheme.lower() != "mqtts":
        why = "goes without TLS" if scheme.lower() in ("mqtt", "tcp", "ws") else "is not for this"
        raise FatalError(
            f"{text!r}: {scheme}:// {why}: name the broker as HOST[:PORT] or mqtts://HOST[:PORT]"
        )
    return rest.rstrip("/")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
