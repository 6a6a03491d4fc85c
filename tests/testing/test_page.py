"""docs/testing.md is true: its files, put into a directory, are run by pytest as a reader would."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from securemqtt.testing import FakeBroker, ThrowawayBroker
from support.requirements import require_program
from support.speed import seconds

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
FILES = {
    "conftest.py",
    "greenhouse.py",
    "test_greenhouse.py",
    "test_handler.py",
    "test_outage.py",
    "test_with_broker.py",
}


def _files() -> dict[str, str]:
    """Return the page's Python by the file that its first line names."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {block.splitlines()[0].removeprefix("# "): block for block in blocks}


def _pytest(
    directory: Path, *arguments: str, plugins: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run pytest in a directory, without what is set for this run of it; `plugins`: with those that
    announce themselves.
    """
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    if not plugins:
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds(100),
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, content in _files().items():
        (tmp_path / name).write_text(content)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def test_the_page_has_these_files() -> None:
    assert set(_files()) == FILES


def test_every_example_passes(project: Path) -> None:
    require_program("mosquitto")
    count = sum(
        node.name.startswith("test_")
        for content in _files().values()
        for node in ast.parse(content).body
        if isinstance(node, ast.FunctionDef)
    )
    done = _pytest(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} passed" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("int(message.text())", "30"),
        ('"~/temperature"', '"~/humidity"'),
        ("self.client.wait(self.interval_s)", "return"),
        ('client.subscribe("~/command/interval"', 'client.subscribe("~/command/intervall"'),
    ],
)
def test_the_examples_find_a_mistake(project: Path, right: str, wrong: str) -> None:
    program = project / "greenhouse.py"
    assert right in program.read_text()
    program.write_text(program.read_text().replace(right, wrong))
    done = _pytest(project, "test_greenhouse.py")
    assert done.returncode == 1, done.stdout + done.stderr


def test_a_fixture_leaves_nothing_to_wait_for(project: Path) -> None:
    """Also where a test has withheld acknowledgements, and failed."""
    (project / "test_own.py").write_text(
        "def test_one(securemqtt_client):\n"
        "    securemqtt_client.connect()\n"
        "    securemqtt_client.fake.withhold_acknowledgements()\n"
        "    securemqtt_client.publish('~/a', 1)\n"
        "    assert not securemqtt_client.fake.published\n"
        "def test_another(securemqtt_client):\n"
        "    assert securemqtt_client.fake.published == []\n"
    )
    done = _pytest(project, "test_own.py")
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "leaving with" not in done.stdout + done.stderr


def test_pytest_does_not_load_it_unasked(project: Path) -> None:
    (project / "conftest.py").unlink()
    (project / "test_own.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert not [name for name in sys.modules if name.startswith('securemqtt')]\n"
    )
    done = _pytest(project, "test_own.py", plugins=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tables_have_every_method() -> None:
    page = PAGE.read_text()
    internal = {"make_link", "in_haste", "begin_wait", "settle"}
    for kind in (FakeBroker, ThrowawayBroker):
        public = {name for name in vars(kind) if not name.startswith("_")} - internal
        missing = {name for name in public if not re.search(rf"`\.?{name}\b", page)}
        assert missing == set()
