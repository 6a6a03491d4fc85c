"""Undergo every fault on both interpreters, with both faces of the client, and write what was
measured into docs/faults.md: run by hand, `python tests/faults/report.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    path
    for path in map(str, (ROOT / "tests", ROOT / "tools", ROOT / "lib"))
    if path not in sys.path
]

from faults.repertoire import FAULTS, suffered_by  # noqa: E402
from faults.rig import ASYNCIO, INTERPRETERS  # noqa: E402
from faults.trial import Result, row, run_all  # noqa: E402
from faults.wifi import lose_wifi  # noqa: E402
from securemqtt_tools.pki import Authority  # noqa: E402

_PAGE = ROOT / "docs" / "faults.md"
_BEGIN, _END = "<!-- measured -->\n", "<!-- end -->\n"


def main() -> int:
    """Measure, and replace the table in the page; exit status 1, and the page as it was, when
    something was not as it must be.
    """
    measured: dict[tuple[str, str], Result] = {}
    kinds = INTERPRETERS + ASYNCIO
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        authority = Authority.create(Path(directory) / "ca", name="faults", passphrase=None)
        for interpreter in kinds:
            names = [*suffered_by(interpreter, names=False), *suffered_by(interpreter, names=True)]
            for name, result in run_all(
                authority, Path(directory) / interpreter, interpreter, names
            ).items():
                found = (
                    result.complaints(FAULTS[name].noticed)
                    if isinstance(result, Result)
                    else [repr(result)]
                )
                if found or not isinstance(result, Result):
                    print(f"faults: {name}, {interpreter}: {'; '.join(found)}", file=sys.stderr)
                    return 1
                measured[name, interpreter] = result
        wifi = lose_wifi(authority, Path(directory))
        if found := wifi.complaints(True):
            print(f"faults: Wi-Fi: {'; '.join(found)}", file=sys.stderr)
            return 1
    table = (
        "| fault | interpreter | bound, s | recovered, s | sent | lost | twice | commands "
        "|\n|---|---|--:|--:|--:|--:|--:|--:|\n"
    )
    pairs = [(name, interpreter) for name in FAULTS for interpreter in kinds]
    table += "".join(row(*pair, measured[pair]) for pair in pairs if pair in measured)
    table += row("Wi-Fi lost and back", "simulated board", wifi)
    before, _, rest = _PAGE.read_text().partition(_BEGIN)
    _PAGE.write_text(before + _BEGIN + table + _END + rest.partition(_END)[2])
    print(table, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
