"""A certificate authority as people make one by hand: each file by the command `openssl`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.requirements import require_program
from support.speed import seconds

_CLIENT = "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
_SERVER = "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n"
_INTERMEDIATE = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n"
_EC = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


class Workshop:
    """A directory in which `openssl` has made a CA; `server`, `device` … make more of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ca, self.ca_key = self.root("ca")

    def run(self, *arguments: str | Path) -> bytes:
        """Run `openssl`; return what it prints."""
        command = [require_program("openssl"), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, timeout=seconds(60), check=False
        )
        assert done.returncode == 0, (command, done.stderr.decode())
        return done.stdout

    def root(self, name: str) -> tuple[Path, Path]:
        """Make a CA that signs itself: its certificate and key."""
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650")
        subject = ("-subj", f"/CN=Somebody's {name}")
        self.run("req", "-x509", *kind, *subject, "-keyout", key, "-out", certificate)
        return certificate, key

    def key(self, name: str, *how: str) -> Path:
        """Make a private key, an EC one on P-256 unless `genpkey` is told otherwise."""
        path = self.directory / f"{name}.key"
        self.run("genpkey", *(how or _EC), "-out", path)
        path.chmod(0o600)
        return path

    def sign(
        self,
        name: str,
        key: Path,
        extensions: str = _CLIENT,
        issuer: tuple[Path, Path] | None = None,
        subject: str | None = None,
    ) -> Path:
        """Issue a certificate for a key, with the name of the file for its common name."""
        request, certificate = self.directory / f"{name}.csr", self.directory / f"{name}.crt"
        self.run("req", "-new", "-key", key, "-subj", f"/CN={subject or name}", "-out", request)
        extension_file = self.directory / f"{name}.ext"
        extension_file.write_text(extensions)
        ca, ca_key = issuer or (self.ca, self.ca_key)
        by = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extension_file)
        self.run("x509", "-req", "-in", request, *by, "-days", "365", "-out", certificate)
        return certificate

    def device(self, name: str, *how: str) -> tuple[Path, Path]:
        """Make a device's certificate and key."""
        key = self.key(name, *how)
        return self.sign(name, key), key

    def server(
        self, name: str = "server", issuer: tuple[Path, Path] | None = None
    ) -> tuple[Path, Path]:
        """Make those of a broker on this machine."""
        key = self.key(name)
        return self.sign(name, key, _SERVER, issuer), key

    def intermediate(self, name: str = "intermediate") -> tuple[Path, Path]:
        """Make those of a CA below the root."""
        key = self.key(name)
        return self.sign(name, key, _INTERMEDIATE), key
