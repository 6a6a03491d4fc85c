"""The broker's directory: its settings, and the files that follow from them.

- broker.json: the settings, the only file that is not made from others
- ca.pem, crl.pem: whom to trust, whom no longer; ca.websockets.pem is both in one, for Mosquitto
  2.0, which checks no CRL on WebSockets
- revoked.json: which device's the revoked certificates are, since a CRL has serial numbers only
- root-crl.pem: with an intermediate, the root's, by which one that was replaced is known
  (crl.pem and these three change together, see revocations.py)
- crl.newest.NUMBER.pem: the CRLs that were in force here, so that none goes back, see memory.py
- root.pem: with a public certificate, its root, which devices are to trust beside ours
- server.pem: the server's key and its certificate chain, in one file so that they change together
- issuer.pem, issuer.key: the broker's own issuing key, encrypted, if there is one (see issuing.py)
- rules.json: the rules, a copy of those beside the inventory (see rules_file.py)
- acl: who may do what, as it follows from the rules and the roles
- passwords: their hashes
- devices.json: who has a certificate, for a broker that must know (see devices.py)
- mosquitto.conf, hivemq/, rabbitmq/: for the broker that runs here
- data/, broker.log: what the running broker writes
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker import revocations
from securemqtt_tools.broker.handover import hand_over, is_aged
from securemqtt_tools.broker.kinds import AUTO, CERTIFICATE_ALONE, ENGINES, RABBITMQ
from securemqtt_tools.broker.mosquitto.acl import acl_text
from securemqtt_tools.broker.nodes import Cluster
from securemqtt_tools.broker.public import find_root, read_public, root_pem
from securemqtt_tools.broker.rules import ROLES, Access
from securemqtt_tools.broker.rules_file import read_rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.crls import issuer_of, key_of
from securemqtt_tools.pki.files import explained, locked, make_directory, write_files
from securemqtt_tools.pki.layout import load_certificate
from securemqtt_tools.pki.names import check_device_id, serial_text
from securemqtt_tools.sudo import meant_instead

SETTINGS = "broker.json"
CA = "ca.pem"
CRL = revocations.CRL
WEBSOCKETS_CA = revocations.WEBSOCKETS_CA
SERVER = "server.pem"
ISSUER = "issuer.pem"
ISSUER_KEY = "issuer.key"
ROOT = "root.pem"
ACL = "acl"
PASSWORDS = "passwords"
DATA = "data"
LOG = "broker.log"
_FORMAT = 2
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  (read from the settings, and not bound here)


class NotRenewedError(FatalError):
    """All is up to date, revocations too, but the certificate, which could not be renewed."""


@dataclass(frozen=True)
class Limits:
    """What one client may take of the broker.

    Generous for a device that is offline for days, yet bounded.
    """

    connections: int = 10_000
    in_flight: int = 20  # QoS 1 and 2 messages to a client that it has not acknowledged
    queued_messages: int = 100_000  # per client, beyond those in flight
    queued_bytes: int = 64 * 1024 * 1024  # per client
    # MQTT would allow 256 MB, which one packet could make the broker allocate
    packet_bytes: int = 1024 * 1024
    # retained messages of one client; in the embedded broker alone, Mosquitto has no such limit
    retained_bytes: int = 16 * 1024 * 1024
    keep_alive_s: int = 3600  # on MQTT 3.1.1 clients, Mosquitto imposes it from 2.0.12 on


@dataclass(frozen=True)
class BrokerConfig:
    """The settings of a broker.

    Made by `create` or `open`. What is written of them may be changed by another process at any
    time: `changed`, `with_role` and `follow_rules` start from what is there then.
    """

    directory: Path
    names: tuple[str, ...]
    port: int
    bind: str = ""  # an address of this machine; empty: all of them
    websockets_port: int | None = None
    passwords: bool = False
    roles: Mapping[str, str] = field(default_factory=dict)
    save_interval_s: int = 60
    save_each_change: bool = False
    limits: Limits = field(default_factory=Limits)
    # Where a public certificate and its key are kept up to date; None: our authority issues one.
    certificate: str | None = None
    key: str | None = None
    certificate_days: int = 90  # of one that the broker's own issuing key makes
    engine: str = AUTO  # which kind of broker it is for, one of ENGINES
    cluster: Cluster | None = None  # where several computers are one broker

    @classmethod
    def create(
        cls,
        directory: Path,
        authority: Authority,
        *,
        names: Sequence[str],
        port: int = 8883,
        bind: str | None = None,
        websockets_port: int | None = None,
        passwords: bool = False,
        roles: Mapping[str, str] | None = None,
        keep_roles: bool = False,
        save_each_change: bool = False,
        public: tuple[Path, Path] | None = None,
        root: Path | None = None,
        engine: str = AUTO,
        cluster: Cluster | None = None,
    ) -> BrokerConfig:
        """Set up a broker in `directory`: server certificate for `names`, trust, CRL, rules,
        settings.

        Port 0 stands for a free one, chosen when the broker first starts and kept from then on.
        Without `bind` the broker listens on all addresses, or on loopback when `names` has nothing
        else. `roles` maps identities to names in ROLES; with `keep_roles` those that a
        broker there has stay beside them. `save_each_change` writes sessions to disk
        at each change, not every minute: a crash loses less. `public` are the files of a public
        certificate and its key, which are taken in place of one of the authority's; `root` has its
        root, where this computer does not trust that. `engine` is one of kinds.ENGINES. With
        `cluster` it is a node of one. Raise FatalError.
        """
        config = cls(
            directory=directory.resolve(),
            names=tuple(names),
            port=port,
            bind=_default_bind(names, cluster) if bind is None else bind,
            websockets_port=websockets_port,
            passwords=passwords,
            roles=dict(roles or {}),
            save_each_change=save_each_change,
            certificate=str(public[0].absolute()) if public else None,
            key=str(public[1].absolute()) if public else None,
            engine=engine,
            cluster=cluster,
        )
        config.check()
        revocations.check(authority, config.directory)
        trusted = find_root(public[0], root) if public else None
        make_directory(config.directory / DATA)
        if trusted is not None:
            write_files(config.directory, {ROOT: root_pem(trusted)})
        for name in (ISSUER, ISSUER_KEY):  # it was for the names of before
            with explained(f"remove {config.directory / name}"):
                (config.directory / name).unlink(missing_ok=True)
        config.renew_certificate(authority)
        hand_over(authority, config.directory)
        with locked(config.directory / SETTINGS):
            if keep_roles and (before := cls.so_far(config.directory)):
                config = replace(config, roles={**before.roles, **config.roles})
            _write(config, SETTINGS, ACL)
        return config

    @classmethod
    def open(cls, directory: Path) -> BrokerConfig:
        """Read the settings in `directory`.

        Raise FatalError when there are none or they make no sense.
        """
        path = directory / SETTINGS
        if not path.exists():
            remedy = meant_instead(path) or "run securemqtt broker init"
            raise FatalError(f"there is no broker in {directory}: {remedy}")
        with explained(f"read {path}"):
            content = path.read_bytes()
        try:
            values: dict[str, Any] = json.loads(content)
            if values.pop("format") != _FORMAT:
                raise FatalError(
                    f"{path} is of another version of securemqtt: run securemqtt broker init "
                    f"--force"
                )
            values["names"] = tuple(values["names"])
            values["limits"] = Limits(**values["limits"])
            if values.get("cluster") is not None:
                values["cluster"] = Cluster.read(values["cluster"])
            config = cls(directory=directory.resolve(), **values)
            config.check()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FatalError(
                f"{path} is damaged ({error}): run securemqtt broker init --force"
            ) from error
        return config

    @classmethod
    def so_far(cls, directory: Path) -> BrokerConfig | None:
        """Return the settings that are there; None where there are none that can be read."""
        try:
            return cls.open(directory)
        except FatalError:
            return None

    def check(self) -> None:
        """Raise FatalError for settings that cannot be meant, or that would break out of their line
        in a file.
        """
        for identity, role in self.roles.items():
            check_device_id(identity)
            if role not in ROLES:
                raise FatalError(f"{role!r} is no role: use one of {', '.join(ROLES)}")
        if self.engine not in ENGINES:
            raise FatalError(f"{self.engine!r} is no broker: use one of {', '.join(ENGINES)}")
        if self.passwords and self.engine in CERTIFICATE_ALONE:
            raise FatalError(
                f"{self.engine} lets in by certificate alone: run securemqtt broker init --force "
                f"without --passwords, or use Mosquitto"
            )
        if self.cluster is not None:
            if self.engine != RABBITMQ:
                raise FatalError(f"{self.engine} makes no cluster here: add --for {RABBITMQ}")
            self.cluster.check()
        ports = [self.port] if self.websockets_port is None else [self.port, self.websockets_port]
        if not all(0 <= port <= 65535 for port in ports) or (
            len(ports) == 2 and ports[0] == ports[1] != 0
        ):
            wanted = " and ".join(str(port) for port in ports)
            raise FatalError(f"cannot listen on {wanted}: use different ports, 1 to 65535")
        try:
            if self.bind != "":
                ipaddress.ip_address(str(self.bind))
        except ValueError as error:
            raise FatalError(f"{self.bind!r} is no IP address to listen on") from error
        if any(character in str(self.directory) for character in "\r\n"):
            raise FatalError("Mosquitto cannot use a directory with a line break in its name")

    def save(self) -> None:
        """Write these settings, whatever is there, and what follows from them. Raise FatalError."""
        with locked(self.directory / SETTINGS):
            _write(self, SETTINGS, ACL)

    def follow_rules(self) -> BrokerConfig:
        """Write what follows from the settings and the rules that are there now; return the
        settings. Raise FatalError.
        """
        with locked(self.directory / SETTINGS):
            now = BrokerConfig.open(self.directory)
            _write(now, ACL)
        return now

    def renew_certificate(self, authority: Authority) -> None:
        """Issue a new certificate for this server, or take the public one as it is now; write it
        with its key, and the trust anchors.

        Raise FatalError.
        """
        if self.certificate and self.key:
            files = Path(self.certificate), Path(self.key)
            server = read_public(*files, self.names, authority.now)
        else:
            issued = authority.issue_server(self.names, renew=True)
            server = issued.key_pem() + issued.chain_pem()
        anchors = b"".join(one.public_bytes(Encoding.PEM) for one in authority.trust_anchors())
        write_files(self.directory, {CA: anchors, SERVER: server})

    def access(self, identity: str) -> Access:
        """Return what an identity may do. Raise FatalError when the rules cannot be read."""
        return read_rules(self.directory).access(identity, self.roles.get(identity))

    @property
    def local_host(self) -> str:
        """Where this computer finds the broker that runs on it."""
        return "localhost" if self.bind in _EVERYWHERE else self.bind

    @property
    def is_public(self) -> bool:
        """Whether the server shows a public certificate."""
        return self.certificate is not None

    @property
    def has_issuer(self) -> bool:
        """Whether the broker has an issuing key of its own."""
        return (self.directory / ISSUER).exists()

    def issuer_certificate(self) -> x509.Certificate:
        """Read the certificate of the broker's issuing key. Raise FatalError."""
        return load_certificate(self.directory / ISSUER)

    def server_trust(self) -> Path:
        """Return the file of the CAs by which to verify this server."""
        return self.directory / (ROOT if self.is_public else CA)

    def refresh(self, authority: Authority) -> BrokerConfig:
        """Bring the CRL, the rules and the server's certificate up to date; return the settings as
        they are there.

        The authority's key, and so its passphrase, is used only when something has to be signed:
        certificates were revoked since the last CRL, the server's own among them, this is another
        authority than before or has another intermediate, or a renewed one, the CRL was signed by
        a clock that was ahead, or has used up two thirds of its life, or the server's certificate a
        third of its own. A running broker learns of it by `BrokerProcess.reload`.
        Raise FatalError, also when the CRL that is here says what the authority does not know:
        nothing is changed then; NotRenewedError last of all, so that it keeps no revocation from
        working.
        """
        hand_over(authority, self.directory)
        config = self.follow_rules()
        now, last = authority.now, authority.issuing_certificate.not_valid_after_utc
        certificate = self.server_certificate()
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        serial = serial_text(certificate.serial_number)
        is_void = (
            serial in authority.inventory.revoked_serials()
            or issuer_of(certificate) != key_of(authority.issuing_certificate)
            or begin > now
            or self._shown()[1:] != list(filter(None, [authority.intermediate]))
        )
        is_due = is_void or is_aged(begin, end, now, last, 1 / 3)
        if config.is_public or (is_due and not config.has_issuer):
            try:
                config.renew_certificate(authority)
            except FatalError as error:
                raise NotRenewedError(f"the certificate is shown as it was: {error}") from error
        return config

    def crl(self) -> x509.CertificateRevocationList:
        """Read the CRL. Raise FatalError."""
        return revocations.read_crl(self.directory)

    def server_certificate(self) -> x509.Certificate:
        """Read the server's own certificate. Raise FatalError."""
        return self._shown()[0]

    def _shown(self) -> list[x509.Certificate]:
        """Read the server's own certificate, and those that it shows with it. Raise FatalError."""
        path = self.directory / SERVER
        with explained(f"read {path}"):
            content = path.read_bytes()
        try:
            return x509.load_pem_x509_certificates(content)
        except ValueError as error:
            raise FatalError(f"{path} is damaged: run securemqtt broker init --force") from error

    def changed(self, **changes: Any) -> BrokerConfig:
        """Change some of the settings that are there now; return them all. Raise FatalError."""
        return self._edited(lambda now: replace(now, **changes))

    def with_role(self, identity: str, role: str | None) -> BrokerConfig:
        """Give an identity another role, or none; return the settings. Raise FatalError."""

        def edit(now: BrokerConfig) -> BrokerConfig:
            others = {name: one for name, one in now.roles.items() if name != identity}
            return replace(now, roles=others if role is None else {**others, identity: role})

        return self._edited(edit)

    def _edited(self, edit: Callable[[BrokerConfig], BrokerConfig]) -> BrokerConfig:
        """Read, change and write the settings; of several processes that do so at once, none undoes
        what another has done.
        """
        with locked(self.directory / SETTINGS):
            config = edit(BrokerConfig.open(self.directory))
            config.check()
            _write(config, SETTINGS, ACL)
        return config


def _write(config: BrokerConfig, *names: str) -> None:
    """Write these files, and one for passwords where there is none; the lock is held."""
    values = asdict(config)
    del values["directory"]
    text = json.dumps({"format": _FORMAT, **values}, indent=2) + "\n"
    files = {
        SETTINGS: text.encode(),
        ACL: acl_text(config.roles, read_rules(config.directory)).encode(),
    }
    wanted = {name: files[name] for name in names}
    if not (config.directory / PASSWORDS).exists():
        wanted[PASSWORDS] = b""
    write_files(config.directory, wanted)


def _default_bind(names: Sequence[str], cluster: Cluster | None) -> str:
    if cluster is not None:
        return cluster.node if cluster.is_on_loopback else ""
    if not set(names) <= {"localhost", "127.0.0.1", "::1"}:
        return ""
    if {"127.0.0.1", "::1"} <= set(names):
        raise FatalError("a broker listens on one address or on all: leave out 127.0.0.1 or ::1")
    return "::1" if "::1" in names else "127.0.0.1"
