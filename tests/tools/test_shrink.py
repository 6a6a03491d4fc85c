"""The small form of the library for a board: the same behaviour, fewer names, nothing kept that is
not needed.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from securemqtt_tools.board.library import board_sources, compile_library, library_directory
from securemqtt_tools.board.shrink import GROUPS, shrink, shrink_program
from securemqtt_tools.board.shrink_names import is_known
from securemqtt_tools.cli import FatalError
from support.micropython import micropython_command, micropython_environment

# Of every resident module, as little as the joining needs; what a test adds to them stands in for
# the library.
_FRAME = {
    "_micropython": "import time\ndef now_ms():\n    return time.ticks_ms()\n",
    "_compat": (
        "import gc, sys\n"
        "def rarely(name):\n"
        "    before = list(sys.modules)\n"
        "    try:\n"
        "        return __import__('securemqtt.' + name, None, None, ('*',))\n"
        "    finally:\n"
        "        for path in list(sys.modules):\n"
        "            if path not in before:\n"
        "                del sys.modules[path]\n"
    ),
    "failure": "from ._compat import rarely\ndef failure(name, what, code=None):\n    return "
    "rarely('diagnose').explain(name, what, code)\n",
    "__init__": "__version__ = '1'\n",
    "assembly": "",
    "lifecycle": "def ended(client, count):\n    client.state = count\n",
    "diagnose": "def explain(name, what, code=None):\n    return ValueError(name, what, code)\n",
}


def _library(**modules: str) -> dict[str, str]:
    return {
        f"securemqtt/{name.replace('__', '/') if '__' in name[2:-2] else name}.py": text
        for name, text in {**_FRAME, **modules}.items()
    }


def _run(tmp_path: Path, sources: dict[str, str], program: str) -> str:
    """Run a program under MicroPython with the small form of `sources`; return what it prints."""
    for name, text in shrink(sources).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = {**micropython_environment(), "MICROPYPATH": str(tmp_path)}
    command = [*micropython_command(), "-c", program]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=20, check=True
    ).stdout


_CLIENT = """
from ._compat import once, rare, rarely
from .failure import failure

class Part:
    @once
    def __init__(self, size):
        self._size = size

    def size(self):
        return self._size

class Client:
    @once
    def __init__(self, size=3):
        self.state = "closed"
        self._part = Part(size)

    def often(self):
        return self._part.size()

    @rare
    def rarely_called(self, number, times=2):
        return self._half(number) * times

    @rare
    def _half(self, number):
        return number / 2

    def fail(self):
        raise failure("Wrong", "it is wrong", 7)

    def end(self):
        self.link_event("ended", 5)

    def link_event(self, event, *details):
        getattr(rarely("lifecycle"), event)(self, *details)
"""


def test_methods_that_are_lent_do_what_they_did(tmp_path: Path) -> None:
    program = (
        "from securemqtt import Client\nc = Client(4)\nprint(c.often(), c.rarely_called(3), "
        "c.rarely_called(number=3, times=4))"
    )
    assert _run(tmp_path, _library(client=_CLIENT), program) == "4 3.0 6.0\n"


def test_a_lent_method_that_is_kept_may_be_called_again(tmp_path: Path) -> None:
    program = (
        "from securemqtt import Client\nkept = Client(4).rarely_called\nprint(kept(3), "
        "kept(5), kept(6, times=3))"
    )
    assert _run(tmp_path, _library(client=_CLIENT), program) == "3.0 5.0 9.0\n"


def test_a_module_that_a_program_has_imported_stays_whole(tmp_path: Path) -> None:
    program = (
        "from securemqtt import Client, lifecycle\nc = Client(4)\nprint(c.rarely_called(3), "
        "c.rarely_called(5))"
    )
    assert _run(tmp_path, _library(client=_CLIENT), program) == "3.0 5.0\n"


def test_a_module_that_was_lent_is_emptied_when_its_method_has_returned(tmp_path: Path) -> None:
    """A pointer to one of its functions, such as the interpreter's stack may hold, does not keep
    the others.
    """
    client = _CLIENT + "\n    @rare\n    def own_globals(self):\n        return globals()\n"
    program = "from securemqtt import Client\nprint(list(Client().own_globals()))"
    assert _run(tmp_path, _library(client=client), program) == "[]\n"


def test_methods_that_are_lent_are_not_in_memory() -> None:
    small = shrink(_library(client=_CLIENT))
    package = small["securemqtt/__init__.py"]
    assert "often" in package
    assert "rarely_called" not in package
    assert "rarely_called" in small["securemqtt/lifecycle.py"]


def test_what_is_nowhere_is_an_attribute_error(tmp_path: Path) -> None:
    program = (
        "from securemqtt import Client\nprint(hasattr(Client(), 'nothing'), "
        "hasattr(Client(), 'rarely_called'))"
    )
    assert _run(tmp_path, _library(client=_CLIENT), program) == "False True\n"


def test_events_find_their_functions_by_name(tmp_path: Path) -> None:
    assert (
        _run(
            tmp_path,
            _library(client=_CLIENT),
            "from securemqtt import Client\nc = Client()\nc.end()\nprint(c.state)",
        )
        == "5\n"
    )


def test_texts_of_failures_are_lent_too(tmp_path: Path) -> None:
    program = (
        "from securemqtt import Client\ntry:\n    Client().fail()\nexcept ValueError as "
        "error:\n    print(error.args)"
    )
    assert _run(tmp_path, _library(client=_CLIENT), program) == "('Wrong', 'it is wrong', 7)\n"
    assert "it is wrong" not in shrink(_library(client=_CLIENT))["securemqtt/__init__.py"]


@pytest.mark.parametrize(
    ("marks", "complaint"),
    [
        ("@rare\n    def __init__(self):\n        pass", "cannot be `rare`"),
        (
            "@once\n    def __init__(self):\n        pass\n    @once\n    def more(self):\n       "
            " pass",
            "more than one",
        ),
    ],
)
def test_marks_that_cannot_work_are_refused(marks: str, complaint: str) -> None:
    with pytest.raises(FatalError, match=complaint):
        shrink(_library(client=f"from ._compat import once, rare\nclass Client:\n    {marks}\n"))


def test_two_resident_modules_may_not_use_one_name() -> None:
    with pytest.raises(FatalError, match="both define same"):
        shrink(_library(session="same = 1\n", client="same = 2\n"))


def test_a_function_that_only_lent_modules_use_is_lent(tmp_path: Path) -> None:
    micropython = _FRAME["_micropython"] + "_ONE = 1\ndef seldom():\n    return _ONE\n"
    client = (
        "from ._compat import rarely\nclass Client:\n    def ask(self):\n        return "
        "rarely('asked').ask()\n"
    )
    sources = _library(
        _micropython=micropython,
        client=client,
        asked="from ._compat import seldom\ndef ask():\n    return seldom()\n",
    )
    assert "_ONE" not in shrink(sources)["securemqtt/__init__.py"]
    assert _run(tmp_path, sources, "from securemqtt import Client\nprint(Client().ask())") == "1\n"


def test_settings_are_a_list_on_a_board(tmp_path: Path) -> None:
    client = (
        "from ._compat import rarely\nclass Client:\n    def __init__(self):\n        "
        "self._settings = rarely('bundle').settings_of(None, {})\n"
        "    def about(self):\n        return self._settings['host'], self._settings['port'], "
        "len(self._settings)\n"
    )
    bundle = (
        "def settings_of(path, options):\n    return load()\ndef load():\n    return "
        "dict(port=1, host='h', more=2)\n"
    )
    sources = _library(client=client, bundle=bundle)
    assert (
        _run(tmp_path, sources, "from securemqtt import Client\nprint(Client().about())")
        == "('h', 1, 2)\n"
    )


def test_counters_are_a_list_on_a_board(tmp_path: Path) -> None:
    client = (
        "from ._compat import rarely\nclass Client:\n    def __init__(self):\n        self._stats "
        "= {'sent': 0, 'failed': 1}\n"
        "    def go_on(self):\n        self._stats['failed'] += 1\n        "
        "self._stats.update(more=5)\n        self._stats['more'] += 2\n"
        "    def stats(self):\n        return rarely('counters').counters(self)\n"
    )
    counters = (
        "def counters(client):\n    stats = dict(client._stats)\n    stats['sum'] = "
        "stats['failed']\n    return stats\n"
    )
    sources = _library(client=client, counters=counters)
    show = "print(type(c._stats), sorted(c.stats().items()))"
    program = f"from securemqtt import Client\nc = Client()\n{show}\nc.go_on()\n{show}"
    assert _run(tmp_path, sources, shrink_program(sources, program)) == (
        "<class 'list'> [('failed', 1), ('sent', 0), ('sum', 1)]\n<class 'list'> [('failed', 2), "
        "('more', 7), ('sent', 0), ('sum', 2)]\n"
    )


def test_constants_are_where_they_are_used(tmp_path: Path) -> None:
    """A number anywhere; an object of its own where it is used once; none that another module has,
    or that a function assigns to.
    """
    client = (
        "from ._compat import rarely\nNUMBER = 5\nKINDS = ('a', 'b')\nTWICE = ('c', 'd')\nSHARED "
        "= 7\nchanged = 0\nhidden = 1\n"
        "class Client:\n    def ask(self, hidden=2):\n        global changed\n        changed += "
        "1\n"
        "        return NUMBER, NUMBER, KINDS, TWICE, TWICE, SHARED, changed, hidden, "
        "rarely('other').ask()\n"
    )
    sources = _library(
        client=client, other="from .client import SHARED\ndef ask():\n    return SHARED\n"
    )
    package = ast.parse(shrink(sources)["securemqtt/__init__.py"])
    values = [ast.unparse(node.value) for node in package.body if isinstance(node, ast.Assign)]
    assert "5" not in values
    assert "('a', 'b')" not in values
    assert {"('c', 'd')", "7", "0", "1"} <= set(values)
    program = "from securemqtt import Client\nprint(Client().ask())"
    assert (
        _run(tmp_path, sources, program)
        == "(5, 5, ('a', 'b'), ('c', 'd'), ('c', 'd'), 7, 1, 2, 7)\n"
    )


def test_what_wakes_other_threads_is_gone(tmp_path: Path) -> None:
    micropython = _FRAME["_micropython"] + "def wake(client):\n    pass\n"
    client = (
        "from ._compat import Lock, wake\nclass Client:\n    def __init__(self):\n        "
        "self._lock = Lock()\n"
        "    def act(self):\n        with self._lock:\n            wake(self)\n        return "
        "hasattr(self, '_lock')\n"
    )
    sources = _library(_micropython=micropython, client=client)
    assert "wake" not in shrink(sources)["securemqtt/__init__.py"]
    assert (
        _run(tmp_path, sources, "from securemqtt import Client\nprint(Client().act())") == "False\n"
    )


def test_private_names_of_lent_modules_are_ones_that_the_firmware_has(tmp_path: Path) -> None:
    """Each module may use the same ones, so that they last; what another module uses, or an
    attribute is called, keeps one name for all.
    """
    client = (
        "from ._compat import rarely\nclass Client:\n    def ask(self, name):\n        "
        "return rarely(name).ask()\n"
    )
    one = (
        "def _private():\n    return 1\ndef _shared():\n    return 2\ndef ask():\n    return "
        "_private() + _shared()\n"
    )
    two = (
        "from .one import _shared\ndef _private():\n    return 5\ndef ask():\n    return "
        "_private() + _shared()\n"
    )
    sources = _library(client=client, one=one, two=two)
    small = shrink(sources)
    kept = {
        node.name
        for name in ("one", "two")
        for node in ast.parse(small[f"securemqtt/{name}.py"]).body
        if isinstance(node, ast.FunctionDef)
    }
    assert all(is_known(name) for name in kept - {"ask"})
    assert (
        _run(
            tmp_path,
            sources,
            "from securemqtt import Client\nprint(Client().ask('one'), Client().ask('two'))",
        )
        == "3 7\n"
    )


def test_a_program_that_knows_the_library_from_inside_finds_its_way(tmp_path: Path) -> None:
    sources = _library(client=_CLIENT)
    program = "from securemqtt.client import Part\nprint(Part(6).size(), Part(7)._size)"
    assert _run(tmp_path, sources, shrink_program(sources, program)) == "6 7\n"


# The library itself


def test_the_public_names_are_as_they_were() -> None:
    package = shrink(board_sources(library_directory()))["securemqtt/__init__.py"]
    tree = ast.parse(package)
    names = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert {"Client", "Delivery", "log_to"} <= names
    delivery = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Delivery"
    )
    for name in (
        "topic",
        "payload",
        "qos",
        "retain",
        "acknowledged",
        "dropped",
        "stored",
        "wait",
        "timeout_s",
    ):
        assert name in ast.unparse(delivery), name


def test_what_others_call_keeps_its_name() -> None:
    small = shrink(board_sources(library_directory()))
    for module, text in (
        ("probe_mbedtls", "def ioctl(self"),
        ("probe_mbedtls", "def readinto(self"),
        ("watchdog", ".feed()"),
    ):
        assert text in small[f"securemqtt/{module}.py"], text


def test_no_board_pays_for_the_names_that_stand_in_for_ours() -> None:
    """The interpreter of the tests has each of them already, so that its table of names does not
    grow.
    """
    package = ast.parse(shrink(board_sources(library_directory()))["securemqtt/__init__.py"])
    attributes = {node.attr for node in ast.walk(package) if isinstance(node, ast.Attribute)}
    names = sorted(name for name in attributes if is_known(name) and name[:2] != "__")
    assert len(names) > 50
    program = "import micropython\n{}\nmicropython.qstr_info()"
    grown = []
    for lines in ("", "\n".join(f"def f(x):\n    x.{name}" for name in names)):
        done = subprocess.run(
            [*micropython_command(), "-c", program.format(lines)],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        grown.append(int(done.stdout.split("n_qstr=")[1].split(",")[0]))
    # `f` and `x` may be new.
    assert grown[1] - grown[0] <= 2 + len(
        {"connect", "wait_msg", "_send_str", "pid", "sock", "ping", "publish"} & set(names)
    )


def test_what_goes_to_a_board_is_what_is_needed() -> None:
    modules = compile_library(library_directory(), 6)
    assert set(GROUPS) <= {Path(name).stem for name in modules}
    assert "securemqtt/client.mpy" not in modules
    assert not [
        name for name in modules if "paho" in name or "openssl" in name or "backends" in name
    ]
