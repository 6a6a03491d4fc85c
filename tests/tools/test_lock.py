"""The lock of all packages: it has what setup.cfg asks for, and pip installs nothing else."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.release.lock import LockError, wants_upgrade, write_lock
from support.release.lock import main as lock_main
from support.setup_environment import LOCK, ROOT, PipError, locked, pip, versions_only, works

PYTHON = Path(sys.executable)
MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("linux", "armv7l"), ("darwin", "arm64"))
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
LOCKS = (LOCK, ROOT / "tests" / "support" / "release" / "tools.lock")
RELEASE_PROGRAMS = ROOT / ".build" / "release" / "bin"
_SYSTEMS = {"linux": "Linux", "darwin": "Darwin"}


def _wanted() -> list[Requirement]:
    """Return what setup.cfg names: the library's own requirement, and every extra."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    texts = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    return [Requirement(line) for text in texts for line in text.split("\n") if line]


def _locked() -> list[Requirement]:
    return [Requirement(line) for line in versions_only(LOCK.read_text())]


def _applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize(("system", "machine"), MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_it_has_what_setup_cfg_asks_for(python: str, system: str, machine: str) -> None:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": system,
        "platform_system": _SYSTEMS[system],
        "platform_machine": machine,
    }
    there: dict[str, list[str]] = {}
    for one in _locked():
        if _applies(one, environment):
            (pin,) = one.specifier
            assert pin.operator == "=="
            there.setdefault(canonicalize_name(one.name), []).append(pin.version)
    assert {name: pins for name, pins in there.items() if len(pins) > 1} == {}
    lacking = [
        str(one)
        for one in _wanted()
        if _applies(one, environment)
        if not one.specifier.contains(there.get(canonicalize_name(one.name), ["0"])[0])
    ]
    assert lacking == [], "run: make lock"


def _needed(requirements: list[Requirement]) -> Iterator[tuple[str, str]]:
    """Return name and version of what these requirements come to in this interpreter, all the way
    down.
    """
    seen = set()
    waiting = [(one, "") for one in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen or not _applies(requirement, {}):
            continue
        seen.add((name, extra))
        distribution = metadata.distribution(name)
        yield name, distribution.version
        waiting += [(requirement, one) for one in requirement.extras if not extra]
        for text in distribution.requires or []:
            below = Requirement(text)
            if below.marker is None or below.marker.evaluate({"extra": extra}):
                below.marker = None
                waiting.append((below, ""))


def test_all_that_is_installed_for_it_is_in_it() -> None:
    there = {
        (canonicalize_name(one.name), next(iter(one.specifier)).version)
        for one in _locked()
        if _applies(one, {})
    }
    needed = set(_needed(_wanted()))
    assert len(needed) > 40
    assert needed - there == set(), "run: make lock, then make setup"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_has_hashes(lock: Path) -> None:
    entries = re.split(r"\n(?=\w)", lock.read_text().partition("make lock\n")[2])
    assert len(entries) > 30
    for entry in entries:
        first, *hashes = entry.rstrip().split(" \\\n    ")
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", first)
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes)


@pytest.mark.parametrize("ci", [True, False])
def test_hashes_are_required(ci: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_up(monkeypatch, ci=ci)
    assert locked(PYTHON, LOCK) == ["--require-hashes", "--requirement", str(LOCK)]


def test_piwheels_has_versions_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _set_up(monkeypatch, extra_index="https://www.piwheels.org/simple")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    # No link: by that name it would be the system's Python, which has no pip on a Debian.
    python.write_text(f'#!/bin/sh\nexec "{PYTHON}" "$@"\n')
    python.chmod(0o755)
    *_, versions = locked(python, LOCK)
    assert "only versions are checked" in capsys.readouterr().out
    assert [Requirement(one) for one in Path(versions).read_text().splitlines()] == _locked()


def test_in_ci_piwheels_makes_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_up(monkeypatch, ci=True, extra_index="https://www.piwheels.org/simple")
    assert "--require-hashes" in locked(PYTHON, LOCK)


def _set_up(
    monkeypatch: pytest.MonkeyPatch, *, ci: bool = False, extra_index: str | None = None
) -> None:
    monkeypatch.setenv("CI", "true" if ci else "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")  # nor what the machine's own says
    if extra_index is not None:
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", extra_index)
    else:
        monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)


def test_nothing_but_what_was_locked_is_installed(tmp_path: Path) -> None:
    wheel = _gauge(tmp_path, "1.0")
    lock = tmp_path / "gauge.lock"
    options = ["--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "there")]
    options += ["--require-hashes", "--requirement", str(lock)]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()

    lock.write_text("gauge==1.0\n")
    with pytest.raises(PipError, match="Hashes are required"):
        pip(PYTHON, *options)
    lock.write_text(f"gauge==1.0 --hash=sha256:{digest[::-1]}\n")
    with pytest.raises(PipError, match=r"^gauge==1\.0 is not what was locked"):
        pip(PYTHON, *options)
    lock.write_text(f"gauge==1.0 --hash=sha256:{digest}\n")
    pip(PYTHON, *options)
    assert (tmp_path / "there" / "gauge.py").exists()


def test_a_hash_that_was_changed_does_not_outlive_a_new_lock(tmp_path: Path) -> None:
    uv = shutil.which("uv", path=f"{RELEASE_PROGRAMS}:{os.environ.get('PATH', os.defpath)}")
    if uv is None:
        pytest.skip("uv is not here: make .build/release/.installed")
    digest = hashlib.sha256(_gauge(tmp_path, "1.0").read_bytes()).hexdigest()
    newer = hashlib.sha256(_gauge(tmp_path, "1.1").read_bytes()).hexdigest()
    lock, wanted = tmp_path / "gauge.lock", tmp_path / "gauge.in"
    wanted.write_text("gauge\n")
    lock.write_text(f"gauge==1.0 \\\n    --hash=sha256:{digest[::-1]}\n")
    options = ("--no-index", "--find-links", str(tmp_path), str(wanted))
    write_lock(uv, lock, False, *options)
    assert lock.read_text().endswith(f"\ngauge==1.0 \\\n    --hash=sha256:{digest}\n")
    write_lock(uv, lock, True, *options)
    assert lock.read_text().endswith(f"\ngauge==1.1 \\\n    --hash=sha256:{newer}\n")
    before = lock.read_text()
    wanted.write_text("gauge==2.0\n")
    with pytest.raises(LockError, match="gauge"):
        write_lock(uv, lock, False, *options)
    assert lock.read_text() == before


def test_an_upgrade_is_wanted_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert [wants_upgrade(text) for text in ("1", "yes", "True")] == [True] * 3
    assert [wants_upgrade(text) for text in ("", "0", "no", "FALSE")] == [False] * 4
    assert lock_main("/nonexistent/uv", "maybe") == 1
    assert capsys.readouterr().err == "lock: UPGRADE=maybe is neither 1/yes/true nor 0/no/false\n"


def test_make_hands_on_whether_an_upgrade_is_wanted() -> None:
    for given in ("", "0", "1"):
        how = ["--no-print-directory", "-n", "-o", ".build/release/.installed"]
        command = ["make", *how, "lock", f"UPGRADE={given}"]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        assert done.stdout.endswith(f'lock.py "{RELEASE_PROGRAMS}/uv" "{given}"\n')


def _gauge(directory: Path, version: str) -> Path:
    """Make a wheel of no use."""
    wheel = directory / f"gauge-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("gauge.py", "")
        archive.writestr(
            f"gauge-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: gauge\nVersion: {version}\n",
        )
        archive.writestr(
            f"gauge-{version}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"gauge-{version}.dist-info/RECORD", "")
    return wheel


def test_an_environment_whose_python_is_gone_or_has_no_pip_does_not_work(tmp_path: Path) -> None:
    """It is made anew: as after an upgrade of Python, or a first run that was cut off."""
    python = tmp_path / "python"
    assert not works(python)
    python.symlink_to("/nonexistent/python")
    assert not works(python)
    python.unlink()
    python.write_text("#!/bin/sh\nexit 1\n")
    assert not works(python)  # it is not executable
    python.chmod(0o755)
    assert not works(python)
    assert works(Path(sys.executable))
