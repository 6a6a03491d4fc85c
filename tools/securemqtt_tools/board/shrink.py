"""Make the library smaller for a board, as source: one module of what stays in memory, and private names that cost nothing.

A board pays for each module it keeps (about 300 bytes) and for each name that its firmware does not know (about 30 bytes), on 64 bits.
So the modules that stay are joined into one, `securemqtt/__init__.py`, and names with a leading underscore, which are nobody's business
outside the library, are replaced by names that every firmware has. What `_compat.rarely` lends stays in modules of its own. The figures
are in docs/ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from securemqtt_tools.cli import FatalError

PACKAGE = "securemqtt/"
# In the order in which each finds what it needs above it.
RESIDENT = (
    "_micropython",
    "_compat",
    "failure",
    "backoff",
    "messages",
    "outbox",
    "session",
    "packets",
    "backends/stream",
    "backends/umqtt",
    "client",
)
# Names that are in every firmware since MicroPython 1.20, with a fixed number in `.mpy` files (py/makeqstrdata.py, static_qstr_list).
# Such as the library itself has are left out when it comes to it; builtins serve for attributes only, where they hide nothing.
_KNOWN = (  # noqa: SIM905  (a table of words reads better than a list of strings)
    "args bytecode clear const copy decode default end endswith extend find format from_bytes index insert isalpha isdigit islower isspace "
    "isupper items iterable join key keys little lower lstrip main micropython pop popitem readline replace reverse rfind rindex rsplit rstrip "
    "sep setdefault sort split startswith step strip throw to_bytes update upper value values "
    # These have no fixed number, but every firmware with networking has them, in os, time, gc, socket, random, struct, hashlib, micropython.
    "accept bind calcsize chdir choice collect digest disable enable getcwd getrandbits heap_unlock hexlify ilistdir isenabled listdir listen "
    "localtime makefile mem_alloc mem_free mem_info mktime mount namedtuple native opt_level pack_into randrange recv recvfrom rmdir seed "
    "sendall sendto settimeout sha256 sleep_us stack_use threshold ticks_add ticks_cpu ticks_us time_ns umount unhexlify unpack_from viper "
).split()
_KNOWN_BUILTINS = (  # noqa: SIM905
    "abs all any bool bytearray bytes callable chr classmethod dict dir divmod eval exec getattr globals hasattr hash id int isinstance "
    "issubclass iter len list locals map next object open ord pow print range repr round set setattr sorted staticmethod str sum super tuple "
    "type zip ArithmeticError AssertionError AttributeError BaseException EOFError Ellipsis Exception GeneratorExit ImportError IndexError "
    "KeyError KeyboardInterrupt LookupError MemoryError NameError NoneType NotImplementedError OSError OverflowError RuntimeError "
    "StopIteration SyntaxError SystemExit TypeError ValueError ZeroDivisionError "
).split()
# Short ones of both lists: what parameters may be called.
_KNOWN_PARAMETERS = "args key value index sep end copy items keys values lower upper step start stop format main count find".split()  # noqa: SIM905
_PUBLIC_CLASSES = {"Client", "Delivery", "Message", "SecureMQTTError"}
_TYPE_CHECKING = re.compile(r"^if TYPE_CHECKING:\n(?:    .*\n|\n(?=    ))+", re.MULTILINE)
_OWN_IMPORT = re.compile(r"^from \.+[\w.]* import (?:\([^)]*\)|[^\n]*)\n", re.MULTILINE)
_LATE_IMPORT = re.compile(rf"^    from \.(?:{'|'.join(RESIDENT).replace('/', '[.]')}|_cpython) import .*$", re.MULTILINE)
_TOP_LEVEL = re.compile(r"^(?:def|class) (\w+)|^(\w+)(?:: [^=\n]+)? = ", re.MULTILINE)
_CONSTANT = re.compile(r"^(_\w+) = const\(", re.MULTILINE)
_PRIVATE = re.compile(r"_[A-Za-z]\w*")
# Private names that are umqtt.simple's or the interpreter's.
_FOREIGN = {"_send_str", "_mpy"}
# Modules that every connection loads, so that their names stay.
_CONNECTED = [
    PACKAGE + name + ".py"
    for name in ("__init__", "bundle", "files", "topics", "lifecycle", "readiness", "backends/tls_mbedtls", "backends/umqtt_rare")
]
# What modules of the library say to each other and nobody else: as good as private.
_INTERNAL = {
    *("eager", "is_new", "resumed", "notify_all", "unknown_qos", "make_outbox", "write_connect", "write_request", "write_disconnect"),
    *("link_acknowledged", "link_event", "link_message", "link_class", "check_private", "usual_places", "full_name", "read_json"),
}


def shrink(sources: dict[str, str]) -> dict[str, str]:
    """Give the library's modules, name relative to `/lib` and source, in their small form."""
    stripped = {name: _without_types(text) for name, text in sources.items()}
    resident = {f"{PACKAGE}{name}.py": name for name in RESIDENT}
    joined = _join({name: stripped[name] for name in resident}, stripped[PACKAGE + "__init__.py"])
    small = {PACKAGE + "__init__.py": joined}
    for name, text in stripped.items():
        if name not in resident and name not in small:
            small[name] = _redirect(name, text)
    return _rename(_rename_parameters(small))


def _without_types(text: str) -> str:
    """Take out what is there for type checkers only."""
    text = _TYPE_CHECKING.sub("", text).replace("if MICROPYTHON and not TYPE_CHECKING:", "if MICROPYTHON:")
    text = re.sub(r"^TYPE_CHECKING = False\n|^from \.+[\w.]* import TYPE_CHECKING\n", "", text, flags=re.MULTILINE)
    return re.sub(r"(import .*?)TYPE_CHECKING, |, TYPE_CHECKING\b", r"\1", text)


def _join(modules: dict[str, str], package: str) -> str:
    """Join the resident modules into the package's own; their names must not clash."""
    owners: dict[str, str] = {}
    parts = []
    for name, text in modules.items():
        body = _LATE_IMPORT.sub("    pass", _OWN_IMPORT.sub("", text))
        for match in _TOP_LEVEL.finditer(body):
            defined = match[1] or match[2]
            if defined != "TYPE_CHECKING" and owners.setdefault(defined, name) != name:
                raise FatalError(f"{name} and {owners[defined]} both define {defined}: a board's library joins them")
        parts.append(body)
    version = re.search(r'^__version__ = "[^"]*"$', package, re.MULTILINE)
    return "".join(parts) + (version[0] if version else "") + "\n"


def _redirect(name: str, text: str) -> str:
    """Have a module that stays apart import from the package what was joined into it."""
    depth = "." * name.count("/")
    for joined in RESIDENT:
        dotted = joined.replace("/", ".")
        inside = re.escape(depth + dotted)
        text = re.sub(rf"^(\s*)from {inside} import ", rf"\1from {depth} import ", text, flags=re.MULTILINE)
        if name.startswith(PACKAGE + "backends/") and dotted.startswith("backends."):
            text = re.sub(rf"^(\s*)from \.{re.escape(dotted[9:])} import ", r"\1from .. import ", text, flags=re.MULTILINE)
    return text


def _rename_parameters(sources: dict[str, str]) -> dict[str, str]:
    """Replace the parameters' names of what no program calls: a board keeps the name of each parameter, of other locals none."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    by_keyword = {node.arg for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}
    return {name: _with_parameters(sources[name], tree, by_keyword) for name, tree in trees.items()}


def _with_parameters(text: str, tree: ast.Module, by_keyword: set[str]) -> str:
    edits: dict[tuple[int, int], tuple[str, str]] = {}
    for function in _internal_functions(tree.body):
        names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        required = len(function.args.args) - len(function.args.defaults)
        own = [argument.arg for argument in function.args.args[:required]]  # those with a default may be given by name
        inner = [argument.arg for node in ast.walk(function) if isinstance(node, ast.arguments) for argument in node.args]
        free = iter([name for name in _KNOWN_PARAMETERS if name not in names and name not in inner])
        wanted = [name for name in own if name != "self" and name not in by_keyword and inner.count(name) == 1]
        short = dict(zip(wanted, free, strict=False))
        for node in ast.walk(function):
            name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else ""
            if name in short:
                edits[(node.lineno, node.col_offset)] = (name, short[name])  # type: ignore[attr-defined]
    lines = text.splitlines(keepends=True)
    for (row, offset), (name, known) in sorted(edits.items(), reverse=True):
        line = lines[row - 1].encode()
        lines[row - 1] = (line[:offset] + known.encode() + line[offset + len(name.encode()) :]).decode()
    return "".join(lines)


def _internal_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """Give the functions and methods that programs do not call, so that nobody names their parameters."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name != "log_to":
            yield node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (node.name not in _PUBLIC_CLASSES or _PRIVATE.fullmatch(method.name)):
                    yield method


def _rename(sources: dict[str, str]) -> dict[str, str]:
    """Replace private names, the same everywhere, by names that cost nothing; those that are used most come first."""
    tokens = {name: list(tokenize.generate_tokens(io.StringIO(text).readline)) for name, text in sources.items()}
    counts: Counter[str] = Counter()
    bare, public_attributes = set(), set()
    for module in tokens.values():
        for before, token in pairwise(module):
            if token.type != tokenize.NAME:
                continue
            attribute = before.string == "." or (before.string == "def" and before.start[1] > 0)
            if (_PRIVATE.fullmatch(token.string) and token.string not in _FOREIGN) or token.string in _INTERNAL:
                counts[token.string] += 1
                if not attribute:
                    bare.add(token.string)
            elif attribute:
                public_attributes.add(token.string)
            else:
                bare.add(token.string)
    for text in sources.values():
        for match in _CONSTANT.finditer(text):
            counts.pop(match[1], None)  # the compiler puts its value in its place, and forgets the name
    # First what is in memory while a device is connected, then the rest.
    connected = {token.string for name in _CONNECTED for token in tokens.get(name, ())}
    names = sorted(counts, key=lambda name: (name not in connected, -counts[name], name))
    taken = public_attributes | bare
    for_attributes = [name for name in _KNOWN_BUILTINS if name not in public_attributes]
    for_all = [name for name in _KNOWN if name not in taken]
    short = dict(zip([name for name in names if name not in bare], for_attributes, strict=False))
    short |= dict(zip([name for name in names if name not in short], for_all, strict=False))
    return {name: _with_names(sources[name], module, short) for name, module in tokens.items()}


def _with_names(text: str, tokens: list[tokenize.TokenInfo], short: dict[str, str]) -> str:
    lines = text.splitlines(keepends=True)
    for token in reversed(tokens):
        if token.type == tokenize.NAME and token.string in short:
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + short[token.string] + line[column + len(token.string) :]
    return "".join(lines)
