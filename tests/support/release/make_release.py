"""Make a release in dist/: `make release`, or `make release-rehearsal` to see what is missing.

Builds what is committed, sdist first and the wheel from the sdist, twice, and compares; checks what
is in them; installs the wheel, alone and with its tools, and tries both; writes the bill of
materials and the checksums. Uploads nothing: the last line says how.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.release import bill, trial
from support.release.building import build_twice
from support.release.state import NotReady, changelog_faults, git, source_version, uncommitted
from support.setup_environment import LOCK, ROOT, versions_only

DIST = ROOT / "dist"
_PYTHON = Path(sys.executable)


def main() -> int:
    """Make the release, or rehearse it; return 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rehearsal",
        action="store_true",
        help="go on with what is committed, though CHANGELOG.md or the tree is not ready",
    )
    rehearsal = parser.parse_args().rehearsal
    try:
        return _release(rehearsal)
    except (NotReady, trial.TrialFailed) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1


def _release(rehearsal: bool) -> int:
    version = source_version(git("show", "HEAD:lib/securemqtt/__init__.py"))
    faults = [*uncommitted(), *changelog_faults(git("show", "HEAD:CHANGELOG.md"), version)]
    if faults and not rehearsal:
        raise NotReady("; ".join(faults))
    for fault in faults:
        _say(f"not yet: {fault}")
    # What is left of an earlier run is not to be taken for this one's.
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        _say(f"building securemqtt {version}, twice")
        sdist, wheel = build_twice(scratch, version)
        _say("both builds gave the same bytes, and hold what they should")
        path = scratch / f"securemqtt-{version}.cdx.json"
        _try_out(wheel, version, path, scratch)
        files = (sdist, wheel, path)
        checksums = "".join(f"{_sha256(file)}  {file.name}\n" for file in files)
        DIST.mkdir()
        for file in files:
            shutil.copy(file, DIST)
        (DIST / "SHA256SUMS").write_text(checksums)
    print(checksums, end="")
    tag = f"v{version}"
    if tag not in git("tag", "--points-at", "HEAD").split():
        _say(f"not tagged: git tag -s {tag} -m 'securemqtt {version}', then git push origin {tag}")
    if faults:
        _say("a rehearsal only: not to be uploaded")
    else:
        _say(f"to upload it: twine upload dist/{sdist.name} dist/{wheel.name}")
    return 0


def _try_out(wheel: Path, version: str, path: Path, scratch: Path) -> None:
    """Install the wheel as a device has it, and as a computer has it; try both, and write the bill
    of materials of the second to `path`.
    """
    _say("installing the wheel alone")
    alone = _environment(scratch / "alone")
    _install(alone, scratch, wheel, "")
    trial.try_library_alone(alone, version)
    _say("installing the wheel with its tools")
    whole = _environment(scratch / "whole")
    _install(whole, scratch, wheel, "[tools,sim]")
    trial.try_tools(whole, scratch)
    count = bill.write_bill(_PYTHON, whole, wheel, path)
    _say(f"the bill of materials has {count} components")


def _environment(directory: Path) -> Path:
    subprocess.run([str(_PYTHON), "-m", "venv", "--without-pip", str(directory)], check=True)
    return directory


def _install(environment: Path, scratch: Path, wheel: Path, extras: str) -> None:
    """Install the wheel and what it needs, as locked: pip says which packages these are, and then
    installs the locked files of those.
    """
    versions = scratch / "versions.txt"
    versions.write_text("\n".join(versions_only(LOCK.read_text())) + "\n")
    report = scratch / "report.json"
    pip = [str(_PYTHON), "-m", "pip", "--python", str(environment), "--disable-pip-version-check"]
    pip += ["install", "--quiet"]
    options = ["--dry-run", "--report", str(report), "--constraint", str(versions)]
    subprocess.run([*pip, *options, f"{wheel}{extras}"], check=True, stdout=subprocess.DEVNULL)
    found = json.loads(report.read_text())["install"]
    names = {_canonical(one["metadata"]["name"]) for one in found} - {"securemqtt"}
    needed = scratch / "needed.lock"
    needed.write_text(
        "\n".join(
            entry
            for entry in re.split(r"\n(?=\w)", LOCK.read_text())
            if _canonical(entry.partition("==")[0]) in names
        )
    )
    subprocess.run(
        [*pip, "--require-hashes", "--no-deps", "--requirement", str(needed)], check=True
    )
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say(text: str) -> None:
    print(f"release: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
