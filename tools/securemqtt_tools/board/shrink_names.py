"""Names for a board: what no program uses is called by a name that the firmware has anyway, for
each other one takes about 30 bytes of heap.

On 64 bits: 8 for the pointer, 3 for hash and length, the text; and the tables grow by doubling. A
name that was ever loaded stays, even when its module is gone, so this goes for the modules that are
only lent, too.
"""

from __future__ import annotations

import ast
import builtins
import io
import select
import socket
import ssl
from collections import Counter
from collections.abc import Iterator

# Names that are in every firmware since MicroPython 1.20, with a fixed number in `.mpy` files
# (py/makeqstrdata.py, static_qstr_list), or because a module that every board with a network has
# holds them. Such as the library itself has are left out when it comes to it; builtins serve for
# attributes only, where they hide nothing.
_KNOWN = (  # noqa: SIM905  (a table of words reads better than a list of strings)
    "args bytecode clear copy decode default end endswith extend find format from_bytes index "
    "insert isalpha isdigit islower isspace "
    "isupper items iterable join key keys little lower lstrip main micropython pop popitem "
    "readline replace reverse rfind rindex rsplit rstrip "
    "sep setdefault sort split startswith step strip throw to_bytes update upper value values "
    # os, time, gc, socket, random, struct, hashlib, micropython
    "accept bind calcsize chdir choice collect digest disable enable getcwd getrandbits "
    "heap_unlock hexlify ilistdir isenabled listdir listen "
    "localtime makefile mem_alloc mem_free mem_info mktime mount namedtuple native opt_level "
    "pack_into randrange recv recvfrom rmdir seed "
    "sendall sendto settimeout sha256 sleep_us stack_use threshold ticks_add ticks_cpu ticks_us "
    "time_ns umount unhexlify unpack_from viper "
    # math
    "pi inf nan tau sin cos tan asin acos atan exp sqrt ceil floor fabs fmod modf sinh cosh tanh "
    "asinh acosh atanh atan2 log2 log10 expm1 "
    "erf erfc gamma lgamma frexp ldexp isinf isnan isfinite copysign degrees radians phase polar "
    "uniform "
    # sets, dicts, deque, heapq, strings
    "union difference intersection issubset issuperset isdisjoint symmetric_difference "
    "difference_update intersection_update popleft "
    "appendleft fromkeys heapify heappop heappush partition center splitlines fromhex "
    # uctypes, framebuf, re, deflate, vfs
    "PTR INT UINT LONG VOID ARRAY NATIVE SHORT ULONG USHORT INT8 INT16 INT32 INT64 UINT8 UINT16 "
    "UINT32 UINT64 FLOAT32 FLOAT64 BF_LEN BF_POS "
    "BFINT8 BFINT16 BFINT32 BFUINT8 BFUINT16 BFUINT32 LONGLONG ULONGLONG BIG_ENDIAN LITTLE_ENDIAN "
    "addressof bytes_at bytearray_at sizeof "
    "struct blit line rect poly fill hline vline pixel scroll ellipse fill_rect GS8 MVLSB RGB565 "
    "MONO_VLSB MONO_HLSB MONO_HMSB GS2_HMSB "
    "GS4_HMSB FrameBuffer match search sub group mkfs statvfs StringIO BytesIO getvalue seek tell "
    "schedule kbd_intr heap_lock qstr_info "
    "deque OrderedDict SSLContext getaddrinfo load_cert_chain setsockopt SOCK_DGRAM SOCK_RAW "
    "AF_INET AF_INET6 SOL_SOCKET EACCES EAGAIN "
    "crc32 a2b_base64 b2a_base64 hex array math cmath heapq framebuf uctypes collections hashlib "
    "binascii cryptolib websocket deflate machine "
    "EALREADY EBADF EEXIST EINVAL EIO EISDIR ENOBUFS ENODEV ENOENT ENOMEM ENOTCONN EOPNOTSUPP "
    "EPERM EADDRINUSE ECONNABORTED errorcode "
).split()
_KNOWN_BUILTINS = (  # noqa: SIM905
    "abs all any bool bytearray bytes callable chr classmethod dict dir divmod eval exec getattr "
    "globals hasattr hash id int isinstance "
    "issubclass iter len list locals map next object open ord pow print range repr round set "
    "setattr sorted staticmethod str sum super tuple "
    "type zip ArithmeticError AssertionError AttributeError BaseException EOFError Ellipsis "
    "Exception GeneratorExit ImportError IndexError "
    "KeyError KeyboardInterrupt LookupError MemoryError NameError NoneType NotImplementedError "
    "OSError OverflowError RuntimeError "
    "StopIteration SyntaxError SystemExit TypeError ValueError ZeroDivisionError "
).split()
# Short ones of both lists: what parameters may be called.
_KNOWN_PARAMETERS = ["args", "key", "value", "index", "sep", "end", "copy", "items", "keys", "values", "lower", "upper", "step", "start", "stop", "format", "main", "count", "find"]
PUBLIC_CLASSES = {"Client", "Delivery", "Message", "SecureMQTTError"}
_PUBLIC_FUNCTIONS = {"log_to"}
# Attributes of public classes that are between the library's own modules all the same, beside those
# that begin with `link_`.
_INTERNAL = {"awaited", "client", "next", "epoch", "packet_id", "wait_for"}
# What others call so: umqtt.simple, mbedTLS what it reads and writes through, `machine.WDT`, the
# interpreter, MicroPython's own types.
_UMQTT = {"_send_str", "wait_msg", "publish", "ping", "sock", "pid", "connect"}
_TYPES = (
    str,
    bytes,
    dict,
    list,
    set,
    memoryview,
    io.BufferedReader,
    socket.socket,
    select.poll,
    ssl.SSLContext,
    OSError,
)
_FOREIGN = (
    _UMQTT
    | {"ioctl", "feed", "_mpy"}
    | {name for kind in _TYPES for name in dir(kind)}
    | set(_KNOWN)
    | set(dir(builtins))
)
# Calls that are given the name of a function, or of a class, as a string.
_BY_NAME = {"link_event"}

Modules = dict[str, ast.Module]


def rename(modules: Modules, resident: str, lent: set[str]) -> dict[str, str]:
    """Rename in place; return what became of each name.

    `resident` is the module that stays in memory, `lent` what every connection loads.
    """
    _rename_parameters(modules)
    local = {name: _local_names(name, modules) for name in modules if name != resident}
    names = _short_names(modules, resident, lent, set().union(*local.values()))
    for name, tree in modules.items():
        own = local.get(name, set())
        for use in _uses(tree):
            use.put(use.name if use.name in own else names.get(use.name, use.name))
        taken = {use.name for use in _uses(tree)}
        short = dict(
            zip(sorted(own), (known for known in _KNOWN if known not in taken), strict=False)
        )
        for use in _uses(tree):
            use.put(short.get(use.name, use.name))
    return names


def _local_names(name: str, modules: Modules) -> set[str]:
    """Return the private names of a module that only it uses, and never behind a dot: each module
    may call its own by the same known names.
    """
    elsewhere = {
        use.name
        for other, tree in modules.items()
        for use in _uses(tree)
        if other != name or use.attribute
    }
    defined = {
        node.name
        for node in modules[name].body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    return {own for own in defined - elsewhere if own[:1] == "_"}


def rename_program(tree: ast.Module, names: dict[str, str]) -> None:
    """Have a program that knows the library from inside, a test, call things by their new names.

    What it imports keeps its name there.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "securemqtt":
            node.names = [
                ast.alias(names.get(one.name, one.name), one.asname or one.name)
                for one in node.names
            ]
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for use in _uses(tree):
        if use.attribute or (isinstance(use.node, ast.keyword) and use.name not in own):
            use.put(names.get(use.name, use.name))


class _Use:
    """A place where a name stands; `attribute` if it does so behind a dot, or in a class, where it
    hides no builtin.
    """

    def __init__(self, node: ast.AST, field: str, attribute: bool = False, index: int = -1) -> None:
        self.node, self.field, self.attribute, self.index = node, field, attribute, index
        value = getattr(node, field)
        self.name: str = value if index < 0 else value[index]

    def put(self, name: str) -> None:
        if self.index < 0:
            setattr(self.node, self.field, name)
        else:
            getattr(self.node, self.field)[self.index] = name


def _uses(tree: ast.AST) -> Iterator[_Use]:
    methods = {
        id(node) for kind in ast.walk(tree) if isinstance(kind, ast.ClassDef) for node in kind.body
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield _Use(node, "id")
        elif isinstance(node, ast.Attribute):
            yield _Use(node, "attr", attribute=True)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield _Use(node, "name", attribute=id(node) in methods)
        elif isinstance(node, ast.arg) or (isinstance(node, ast.keyword) and node.arg):
            yield _Use(node, "arg")
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield _Use(node, "name")
        elif isinstance(node, ast.Global):
            yield from (_Use(node, "names", index=index) for index in range(len(node.names)))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield _Use(alias, "name")
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "_rares"
        ):
            yield _Use(node.value, "value", attribute=True)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _BY_NAME
        ):
            yield _Use(node.args[0], "value", attribute=True)


def _rename_parameters(modules: Modules) -> None:
    """Replace the parameters' names of what no program calls: a board keeps the name of each
    parameter, of other locals none.
    """
    by_keyword = {
        node.arg
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
    }
    for tree in modules.values():
        for function in _internal_functions(tree):
            names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            required = len(function.args.args) - len(function.args.defaults)
            # those with a default may be given by name
            own = [argument.arg for argument in function.args.args[:required]]
            inner = [
                argument.arg
                for node in ast.walk(function)
                if isinstance(node, ast.arguments)
                for argument in node.args
            ]
            free = [name for name in _KNOWN_PARAMETERS if name not in names and name not in inner]
            wanted = [
                name
                for name in own
                if name != "self" and name not in by_keyword and inner.count(name) == 1
            ]
            short = dict(zip(wanted, free, strict=False))
            for use in _uses(function):
                if isinstance(use.node, (ast.Name, ast.arg)):
                    use.put(short.get(use.name, use.name))


def _internal_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Return the functions and methods that programs do not call, so that nobody names their
    parameters.
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name not in _PUBLIC_FUNCTIONS:
            yield node
        elif isinstance(node, ast.ClassDef):
            public = _is_public(node)
            yield from (
                method
                for method in node.body
                if isinstance(method, ast.FunctionDef) and not (public and _may_call(method.name))
            )


def _is_public(node: ast.ClassDef) -> bool:
    return node.name.removeprefix("Rare") in PUBLIC_CLASSES


def _may_call(method: str) -> bool:
    return method == "__init__" or (
        method[:1] != "_" and method[:5] != "link_" and method not in _INTERNAL
    )


def _short_names(
    modules: Modules, resident: str, lent: set[str], local: set[str]
) -> dict[str, str]:
    """Find for each name that no program knows, but for `local` ones, one that costs nothing; those
    that are used most come first.
    """
    own = _own_names(modules) - local
    counts: Counter[str] = Counter()
    bare, kept, kept_attributes = set(), set(), set()
    weight: dict[str, int] = {}
    for name, tree in modules.items():
        for use in _uses(tree):
            if use.name not in own:
                kept.add(use.name)
                if use.attribute:
                    kept_attributes.add(use.name)
                continue
            counts[use.name] += 1
            weight[use.name] = max(
                weight.get(use.name, 0), 2 if name == resident else 1 if name in lent else 0
            )
            if not use.attribute:
                bare.add(use.name)
    for tree in modules.values():
        for node in tree.body:
            if is_constant(node):
                counts.pop(node.targets[0].id, None)  # type: ignore[attr-defined]
    names = sorted(counts, key=lambda name: (-weight[name], -counts[name], name))
    for_attributes = [name for name in _KNOWN_BUILTINS if name not in kept_attributes]
    for_all = [name for name in _KNOWN if name not in kept]
    short = dict(zip([name for name in names if name not in bare], for_attributes, strict=False))
    short |= dict(zip([name for name in names if name not in short], for_all, strict=False))
    return short


def is_constant(node: ast.stmt) -> bool:
    """Return True if the compiler puts a value in the place of a name, and forgets the name."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    value = node.value
    return (
        node.targets[0].id[:1] == "_"
        and isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id == "const"
    )


def is_known(name: str) -> bool:
    """Return True if every firmware has a name."""
    return name in _FOREIGN


def _own_names(modules: Modules) -> set[str]:
    """Return the names that the library defines and no program uses: of functions, classes,
    attributes, globals, and parameters.
    """
    own: set[str] = set()
    public = (
        PUBLIC_CLASSES
        | _PUBLIC_FUNCTIONS
        | {name.rpartition("/")[2].removesuffix(".py") for name in modules}
    )
    for name, tree in modules.items():
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        if name.endswith("/errors.py"):
            public |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        own |= {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        own |= {
            argument.arg
            for function in _internal_functions(tree)
            for argument in function.args.args
        }
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
            if isinstance(node, ast.Attribute) and _root(node) in imported:
                public.add(node.attr)
            if isinstance(node, ast.ClassDef):
                targets = [
                    target
                    for part in node.body
                    if isinstance(part, ast.Assign)
                    for target in part.targets
                ]
                own |= {target.id for target in targets if isinstance(target, ast.Name)}
                if _is_public(node):
                    public |= _public_names(node)
    return {name for name in own if name[:2] != "__"} - public - _FOREIGN - {"self"}


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _public_names(public_class: ast.ClassDef) -> set[str]:
    """Return what programs use of a class: its methods, their parameters, its attributes."""
    names: set[str] = set()
    for node in ast.walk(public_class):
        if isinstance(node, ast.FunctionDef) and _may_call(node.name):
            names |= {node.name} | {argument.arg for argument in node.args.args}
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            names.add(node.attr)
        elif isinstance(node, ast.Assign) and node in public_class.body:
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in names if name[:1] != "_" and name[:5] != "link_"} - _INTERNAL
