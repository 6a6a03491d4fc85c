"""What a client of other people's needs to know of an id: which files, where, which topics."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from securemqtt.platform import escaped
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.rules import Access, Rules, own_filter, own_prefix, prefix_covered
from securemqtt_tools.cli import FatalError
from securemqtt_tools.home import Home
from securemqtt_tools.pki.files import explained, read_private
from securemqtt_tools.pki.layout import ISSUED
from securemqtt_tools.pki.names import server_name

# Mosquitto takes any path; this is what clients ask for, ours too.
WEBSOCKETS_PATH = "/mqtt"
_ENCRYPTED = b"ENCRYPTED"


@dataclass(frozen=True)
class Identity:
    """An id that has a certificate, and the broker that it is for.

    `ca`, `certificate` and `key` are the files here, each of them one or several: `shown` says what
    they are called where the client runs. The key's content is never kept.
    """

    id: str
    host: str
    port: int
    websockets: bool
    ca: Sequence[Path]
    certificate: Sequence[Path]
    key: Path
    key_is_encrypted: bool
    reads: Sequence[str]
    writes: Sequence[str]
    password_file: Path | None = None  # of the broker's password, where it demands one
    elsewhere: PurePosixPath | None = None  # the directory where the client runs

    @property
    def prefix(self) -> str:
        """The id's own topics, without a / at the end."""
        return own_prefix(self.id)

    @property
    def own(self) -> str:
        """The topic filter of the id's own topics."""
        return own_filter(self.id)

    @property
    def ca_path(self) -> str:
        """The file of the trust anchors, for the client."""
        return self._path(self.ca)

    @property
    def certificate_path(self) -> str:
        """The file of the certificate and its chain, for the client."""
        return self._path(self.certificate)

    @property
    def key_path(self) -> str:
        """The file of the private key, for the client."""
        return self._path([self.key])

    @property
    def password_path(self) -> str | None:
        """The file of the password, for the client; None where there is none."""
        return None if self.password_file is None else self._path([self.password_file])

    def notes(self) -> list[str]:
        """Return what everybody should know before using the lines, line by line."""
        how = "WebSockets over TLS (wss)" if self.websockets else "TLS"
        notes = [
            f"{self.id} at {self.host}, port {self.port}, MQTT 3.1.1 over {how}.",
            "One certificate is one id: the client id is the id in the certificate, and a second",
            "connection of the same id ends the first.",
            f"It may publish to {', '.join(self.writes)}; read {', '.join(self.reads)}.",
            "What it publishes elsewhere the broker drops without a word.",
        ]
        if self.elsewhere is not None:
            names = [Path(name).name for name in self._names()]
            notes.append(f"Copy to {self.elsewhere}, readable for its user only: {' '.join(names)}")
        for several in (self.ca, self.certificate):
            if len(several) > 1:
                joined = shlex.quote(str(_joined(several)))
                notes.append(f"First: cat {shlex.join(map(str, several))} > {joined}")
        if self.password_file is not None:
            notes.append("Commands that have the password as an argument show it to other users of")
            notes.append("the same computer while they run (ps); programs and windows do not.")
        if self.key_is_encrypted:
            notes.append("The private key is encrypted: the client has to be given its passphrase.")
        return notes

    def comment(self, mark: str) -> str:
        """Return the notes as a comment, with a line feed at the end."""
        return "".join(f"{mark} {line}\n" for line in self.notes())

    def _names(self) -> list[str]:
        paths = [self.ca_path, self.certificate_path, self.key_path, self.password_path]
        return [path for path in paths if path is not None]

    def _path(self, paths: Sequence[Path]) -> str:
        here = paths[0] if len(paths) == 1 else _joined(paths)
        return str(here if self.elsewhere is None else self.elsewhere / here.name)


def _joined(paths: Sequence[Path]) -> Path:
    """Return the file that several are to be joined in: few clients take more than one."""
    return paths[0].with_name(f"{paths[0].stem}-all{paths[0].suffix}")


def find(
    home: Path,
    device_id: str,
    *,
    bundle: Path | None = None,
    host: str | None = None,
    websockets: bool = False,
    password_file: Path | None = None,
    elsewhere: PurePosixPath | None = None,
) -> Identity:
    """Return an id with the files that there are of it: in `bundle`, else in HOME/bundles, else
    what `ca device` has written.

    Nothing is made. Raise FatalError if there is nothing, or it does not fit together.
    """
    directory = bundle or _directory(Home(home), device_id)
    _check_paths(directory, password_file, elsewhere)
    config = _config(directory)
    if config.get("client_id", device_id) != device_id:
        raise FatalError(f"{directory} is the bundle of {config['client_id']}, not of {device_id}")
    broker = _broker(Home(home))
    access = _access(device_id, config, broker)
    prefix = config.get("prefix", own_prefix(device_id))
    if config.get("imported") or not prefix_covered(access.write, prefix):
        raise FatalError(
            f"{directory} is for a broker of somebody else's, whose rules and topics are not known "
            "here: ask there what a client has to be told, and give it the files that are in it"
        )
    ca = _files(directory, config, "ca", "ca.crt")
    certificate = _files(directory, config, "certificate", "device.crt")
    key = _files(directory, config, "key", "device.key")[0]
    _check_certificate(certificate[0], device_id)
    port = _port(broker, config, websockets)
    found = Identity(
        id=device_id,
        host=_host(host or config.get("host") or (broker.names[0] if broker else "")),
        port=port,
        websockets=websockets,
        ca=ca,
        certificate=certificate,
        key=key,
        key_is_encrypted=_ENCRYPTED in _pem(key, read_private(key)),
        reads=access.read,
        writes=access.write,
        password_file=None if password_file is None else password_file.absolute(),
        elsewhere=elsewhere,
    )
    if password_file is not None and not password_file.is_file():
        raise FatalError(
            f"there is no file {password_file}: make it with `securemqtt broker password "
            f"{device_id} --out {shlex.quote(str(password_file))}`"
        )
    if broker is not None and broker.passwords and password_file is None:
        raise FatalError(
            "this broker demands a password, too: make one with `securemqtt broker password "
            f"{device_id} --out FILE`, and give --password-file FILE"
        )
    return found


def _check_paths(*paths: PurePath | None) -> None:
    """Raise FatalError for a path that would not stay in its line of a comment."""
    for path in paths:
        if path is not None and escaped(str(path)) != str(path):
            raise FatalError(
                f"{str(path)!r} holds what cannot stand in a line, such as a line feed: use files "
                "and a --directory without that"
            )


def _access(device_id: str, config: Mapping[str, Any], broker: BrokerConfig | None) -> Access:
    """Return what an id may do: by the broker's rules, where it is set up here, else by those that
    the bundle has.
    """
    if broker is not None:
        return broker.access(device_id)
    own = Rules().access(device_id)
    reads, writes = config.get("may_subscribe"), config.get("may_publish")
    return Access(tuple(reads or own.read), tuple(writes or own.write))


def _directory(home: Home, device_id: str) -> Path:
    for directory in (home.bundle(device_id), home.ca / ISSUED / "devices" / device_id):
        if directory.exists():
            return directory
    if home.has_certified(device_id):
        raise FatalError(
            f"{device_id} has a certificate, and its key is not on this computer: a board's never "
            f"leaves it. Give this program an id of its own: {home.making('OTHER')}; or name where "
            "the files are with --bundle DIR"
        )
    raise FatalError(
        f"there are no files of {device_id} in {home.path}: make them with "
        f"{home.making(device_id)}, or name where they are with --bundle DIR"
    )


def _config(directory: Path) -> dict[str, Any]:
    """Return a bundle's config.json; nothing for what `ca device` has written."""
    path = directory / "config.json"
    if not path.exists():
        return {}
    with explained(f"read {path}"):
        content = path.read_bytes()
    try:
        config = json.loads(content)
        if isinstance(config, dict):
            return config
    except ValueError:
        pass  # told below
    raise FatalError(f"{path} is damaged: provision it again")


def _broker(home: Home) -> BrokerConfig | None:
    return BrokerConfig.open(home.broker) if home.broker.exists() else None


def _host(text: str) -> str:
    if not text:
        raise FatalError("the broker's name is not known here: give --host NAME")
    return str(server_name(text).value)


def _port(broker: BrokerConfig | None, config: Mapping[str, Any], websockets: bool) -> int:
    if websockets:
        port = broker.websockets_port if broker else None
        if port is None:
            raise FatalError(
                "there is no port for WebSockets that is known here: run securemqtt broker init "
                "--force --websockets"
            )
    else:
        port = config.get("port") or (broker.port if broker else None)
    if not port:
        raise FatalError("the broker's port is not known here: run securemqtt broker init, or run")
    return int(port)


def _files(directory: Path, config: Mapping[str, Any], what: str, default: str) -> list[Path]:
    """Return the files that config.json names as `what`."""
    named = config.get(what, default)
    paths = [
        directory.absolute() / name for name in (named if isinstance(named, list) else [named])
    ]
    for path in paths:
        if not path.exists():
            raise FatalError(f"{path} is not there: provision it again, or name another --bundle")
        if what != "key":
            with explained(f"read {path}"):
                _pem(path, path.read_bytes())
    return paths


def _pem(path: Path, content: bytes) -> bytes:
    if b"-----BEGIN" not in content:
        raise FatalError(
            f"{path} is not PEM, which these clients take: a board's files are DER; provision pi "
            "makes PEM"
        )
    return content


def _check_certificate(path: Path, device_id: str) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise FatalError(f"{path} is damaged: provision it again") from error
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else "nobody"
    if name != device_id:
        raise FatalError(f"{path} is the certificate of {name}, not of {device_id}")
    if certificate.not_valid_after_utc <= datetime.now(timezone.utc):
        raise FatalError(
            f"{path} ended on {certificate.not_valid_after_utc:%Y-%m-%d}: provision it again"
        )
