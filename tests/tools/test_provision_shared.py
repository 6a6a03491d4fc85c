"""`provision` with the certificate that several devices share, for the broker of the same home:
what it says, and whom that broker would not let in.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.brokers.home import Home


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    """Return a home where a and b share the certificate of lamps."""
    made = Home(tmp_path / "home", capsys, broker=False)
    made.good("broker", "init", "localhost", "--port", str(made.port), "--passwords")
    made.good("ca", "device", "a", "b", "--shared", "lamps")
    return made


def arguments(home: Home, *identity: str, has_password: bool = True) -> list[str | Path]:
    """Return what puts a bundle beside the home, for an id if one is given."""
    made = home.ca / "issued" / "shared" / "lamps"
    files: list[str | Path] = ["--ca", made / "ca.crt", "--certificate", made / "shared.crt"]
    files += ["--key", made / "shared.key"]
    if has_password:
        files += ["--password-file", made / "a.password"]
    return [
        "pi",
        *identity,
        "--broker",
        "localhost",
        "--out",
        home.directory.parent / "out",
        *files,
    ]


def test_it_does_not_say_that_it_issues(home: Home) -> None:
    wanted = arguments(home, "--id", "a")
    assert "would import the certificate" in home.good("provision", *wanted, "--dry-run")
    assert "certificate imported, until" in home.good("provision", *wanted)
    out = home.directory.parent / "out"
    assert "imported" not in json.loads((out / "config.json").read_text())
    # It has its password already, so another run may leave that out.
    again = home.good("provision", *arguments(home, "--id", "a", has_password=False))
    assert "without --password-file a comes in only if it has its password already" in again
    assert "a is up to date" in again


def test_who_would_not_come_in(home: Home) -> None:
    """Each is told before anything is made, at a dry run, too."""
    home.good("broker", "password", "b", "--remove")
    home.good("broker", "group", "lamps", "c")  # a member that shares nothing
    refused = {
        (): "which of the devices that share the certificate of lamps is it? Give --id ID",
        ("--id", "c"): "a new device joins by securemqtt ca device c --shared lamps",
        ("--id", "b"): "your broker has no password of b: make one with securemqtt broker password",
    }
    for identity, why in refused.items():
        for more in ((), ("--dry-run",)):
            assert why in home.bad("provision", *arguments(home, *identity), *more)
    home.warned("broker", "init", "localhost", "--port", str(home.port), "--force")
    assert "your broker asks for no passwords" in home.bad(
        "provision", *arguments(home, "--id", "a")
    )
    assert not (home.directory.parent / "out").exists()
