"""The options of a client: found, checked by the schema, and put together as `Settings`.

They come from the bundle's config.json and from the arguments of `Client`, which win. Their meaning
is in schema.py and docs/options.md. A board loads this module when a client is made, and forgets it
again.
"""

from . import bundle
from .log import log, printable, quoted
from .messages import encode, has_half_pair
from .platform import const
from .protocol.topics import PREFIX, expand, problem, valid_elsewhere, valid_id
from .schema import OPTIONS, in_words
from .settings import Settings

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .errors import UsageError


def load(path: "Any", options: "Mapping[str, Any]") -> Settings:
    """Read the bundle's config.json, put `options` over it, check what needs no network.

    Raise BundleNotFound, UsageError, or what is wrong with config.json.
    """
    known = [option[0] for option in OPTIONS]
    for name in options:
        if name not in known:
            raise _unknown(name, known)
    # Beside the options, config.json may hold keys of its own for an application.
    given: "dict[str, Any]" = {}
    directory = ""
    if path is not None or "host" not in options:
        directory = bundle.find(
            None if path is None else _checked("bundle", "path", "", None, path)
        )
        bundle.check_protected(directory)
        bundle.check_protected(bundle.path_of(directory, "config.json"))
        given = bundle.read_json(directory, "config.json")
    # What `provision` wrote, with a certificate of our own authority.
    ours = "format" in given and not given.get("imported")
    theirs = given.get("client_id")
    if theirs and options.get("client_id", theirs) != theirs:
        what = (
            "this bundle is that of {}: what {} publishes under its own name, a broker that goes "
        )
        what += "by the certificate acknowledges and drops"
        log("warning", what.format(quoted(theirs), quoted(options["client_id"])))
    given.update(options)
    values: "dict[str, Any]" = {"path": directory, "limits": None, "hosts": [], "hosts_tried": 0}
    chosen: "dict[str, Any]" = {}
    if given.get("preset") is not None:
        from . import presets

        chosen = presets.defaults(given)
    for name, kind, default, allowed, unit, _ in OPTIONS:
        value = given.get(name, chosen.get(name, default))
        if value is not None or default is not None:
            if kind == "hosts" and isinstance(value, (list, tuple)):
                value = _brokers(value, given.get("port", 8883))
            else:
                value = _checked(name, kind, unit, allowed, value)
        values[name] = value
    if isinstance(values["host"], list):
        values["hosts"] = values["host"]
        values["host"], values["port"] = values["hosts"][0]
    if ours:
        _check_provisioned(values)
    if values["prefix"] is None:
        values["prefix"] = PREFIX + values["client_id"]
    _check_together(values)
    _prepare_will(values)
    if values["preset"] is not None:
        from . import presets

        presets.apply(values)
    if values["password_file"] and values["password"] is None:
        values["password"] = bundle.read_password(directory, values["password_file"])
    return Settings(values)


def _brokers(names: "Any", port: "Any") -> "list[tuple[str, int]]":
    """Return the brokers of a list, shuffled. Raise UsageError."""
    from . import hosts

    checked = []
    for host, number in hosts.parsed(names, port):
        _checked("host", "name", "", (1, 253), host)
        checked.append((host, _checked("port", "whole", "", (1, 65535), number)))
    return checked


# One value


def _checked(name: str, kind: str, unit: str, allowed: "Any", value: "Any") -> "Any":
    """Return an option's value, a path as a str. Raise UsageError."""
    if kind == "path" or kind == "paths":
        found = _path(value) if kind == "path" or not isinstance(value, (list, tuple)) else None
        if found is not None:
            return found
        if kind == "paths" and isinstance(value, (list, tuple)):
            paths = [_path(item) for item in value]
            if None not in paths:
                return paths
        if kind == "paths" and value is None:
            return ()
    elif _is_right(kind, allowed, value):
        return value
    if name == "host" and isinstance(value, str) and not value:
        raise _usage_error("the broker's host is not set")
    if name == "client_id" and isinstance(value, str) and not value:
        raise _usage_error("client_id, which names this device at the broker, is not set")
    shown = quoted(value)
    if isinstance(value, (list, tuple)) and kind in ("will", "paths", "protocols"):
        shown += " of {}".format(len(value))  # else it would read as what is allowed
    if kind == "secret" or kind == "opener":
        shown = "this {}".format(type(value).__name__)
        if isinstance(value, str):
            shown += " of {} characters".format(len(value))
    raise _usage_error("{} must be {}, not {}".format(name, in_words(kind, allowed, unit), shown))


def _is_right(kind: str, allowed: "Any", value: "Any") -> bool:
    if kind == "flag":
        return value is True or value is False
    if kind == "whole" or kind == "seconds":
        # bool is an int to Python; NaN is in no range.
        number = isinstance(value, int if kind == "whole" else (int, float))
        return number and not isinstance(value, bool) and allowed[0] <= value <= allowed[1]
    if kind == "choice":
        return isinstance(value, str) and value in allowed
    if kind == "id":
        return valid_elsewhere(value)
    if kind == "topic":
        return isinstance(value, str) and value[-1:] != "/" and not problem(value, False)
    if kind in ("name", "hosts", "text", "secret"):
        return _is_text(value, allowed, 33 if kind in ("name", "hosts") else 1)
    if kind == "protocols":
        ones = value if isinstance(value, (list, tuple)) else (value,)
        return all(_is_text(one, allowed, 1) and max(one.encode()) < 128 for one in ones)
    if kind == "filters":
        return isinstance(value, (list, tuple)) and all(_is_text(one, allowed, 1) for one in value)
    if kind == "opener":
        return isinstance(value, (str, bytes, bytearray)) or callable(value)
    if kind == "feeder":
        try:
            return callable(value.feed)
        except AttributeError:
            return False
    return isinstance(value, (list, tuple)) and 2 <= len(value) <= 4  # a will


def _is_text(value: "Any", allowed: "tuple[int, int]", lowest: int) -> bool:
    """Return True if a str is as long as is `allowed` in UTF-8, and has no code below `lowest`."""
    if not isinstance(value, str) or len(value) > allowed[1]:
        return False
    content = value.encode("utf-8", "surrogatepass")
    if not allowed[0] <= len(content) <= allowed[1] or has_half_pair(content):
        return False
    # 127, too, is a control character; a password may hold it.
    return not content or (min(content) >= lowest and (lowest == 1 or 127 not in content))


def _path(value: "Any") -> "str | None":
    """Return a path as a str, None if it is none: a str, or an object of pathlib's.

    That of micropython-lib has no `__fspath__`, and is told by the name of its class.
    """
    if not isinstance(value, str):
        try:
            value = value.__fspath__()
        except (AttributeError, TypeError):  # the latter: a class, such as Path itself
            if type(value).__name__ != "Path":
                return None
            value = str(value)
    return value if isinstance(value, str) and value and "\0" not in value else None


# One beside the others


def _check_provisioned(values: "dict[str, Any]") -> None:
    """Raise UsageError for what cannot be of a bundle that `provision` has made: our own broker
    knows a device by its certificate, and the rules there by an id that is one level of a topic.
    """
    if not valid_id(values["client_id"]):
        what = "client_id must be 1 to 64 of A-Z a-z 0-9 _ -, the first no -, in a bundle that"
        raise _usage_error(what + " `provision` has made, not " + quoted(values["client_id"]))
    if not values["certificate"]:
        what = "the bundle names no certificate, and one that `provision` has made has one"
        raise _usage_error(what + ": it was changed since")


def _check_together(values: "dict[str, Any]") -> None:
    if values["outbox"] == "durable":
        values["outbox_dir"] = _outbox_directory(values["path"], values["outbox_dir"])
    if values["username"] is None:
        for name in ("password", "password_file"):
            if values[name] is not None:  # [MQTT-3.1.2-22]
                raise _usage_error(name + " is given without username, and MQTT sends none alone")


def _outbox_directory(path: str, given: "str | None") -> str:
    """Return the directory of a durable outbox. Raise UsageError.

    None is relative to the current directory: a service has another one than a shell, and would
    leave the messages of the other lying.
    """
    if not path and not given:
        raise _usage_error(
            "a durable outbox without a bundle needs outbox_dir, the directory to keep it in",
        )
    if not path and given and given[0] != "/":
        what = "outbox_dir must be an absolute path where there is no bundle, not "
        raise _usage_error(what + quoted(given))
    directory = bundle.path_of(path, given or "outbox")
    parent = directory.rstrip("/").rpartition("/")[0]
    if parent and not bundle.is_directory(parent):
        what = "outbox_dir must lie in a directory that is there, and {} is none"
        raise _usage_error(what.format(printable(parent)))
    if bundle.exists(directory) and not bundle.is_directory(directory):
        raise _usage_error(
            "outbox_dir must be a directory, and {} is a file".format(printable(directory))
        )
    return directory


def _prepare_will(values: "dict[str, Any]") -> None:
    """Settle the will: the user's own (topic, payload, qos=1, retain=False), or `offline` on
    ~/status, retained.
    """
    will = values["will"]
    prefix = values["prefix"]
    if will is None:
        if values["status"]:
            values["will"] = (expand("~/status", prefix), b"offline", 1, True)
        return
    topic, payload, qos, retain = tuple(will) + (1, False)[len(will) - 2 :]
    if isinstance(topic, str):
        topic = expand(topic, prefix)
    wrong = problem(topic, False)
    if wrong:
        from .errors import InvalidTopic

        raise InvalidTopic("the will's topic {}: {}".format(quoted(topic), wrong))
    if not _is_right("whole", (0, 2), qos):
        raise _usage_error("the will's qos must be 0, 1 or 2, not " + quoted(qos))
    if not _is_right("flag", None, retain):
        raise _usage_error("the will's retain must be True or False, not " + quoted(retain))
    content = encode(payload)
    if len(content) > 65535:
        from .errors import InvalidPayload

        raise InvalidPayload("the will's payload is longer than 65,535 bytes", len(content))
    values["will"] = (topic, content, qos, retain)
    values["status"] = False  # there is one will only, and a birth without its will would lie


# What is said of a mistake


def _unknown(name: str, known: "list[str]") -> "UsageError":
    near = _nearest(name[:40], known)
    hint = "; the nearest is {}".format(near) if near else ""
    return _usage_error("Client has no option {}{}".format(quoted(name), hint))


def _nearest(name: str, known: "list[str]") -> str:
    """Return which of `known` a name was most likely to be, "" if none is near."""
    sought = name.lower().replace("_", "")
    best, near = 1 + len(sought) // 4, ""
    for one in known:
        other = one.replace("_", "")
        # A part of the name, such as timeout, or one with something added; if short, a whole word.
        inside = len(sought) > 3 < len(other) and (sought in other or other in sought)
        inside = inside or (len(name) > 1 and name.lower() in one.split("_"))
        distance = 1 if inside else _distance(sought.encode(), other.encode())
        if distance < best or (distance == best and not near):
            best, near = distance, one
    return near


def _distance(one: bytes, other: bytes) -> int:
    """Return how many letters are to be changed, added or left out to make one of the other."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one):
        above = row
        row = [number + 1]
        for at, another in enumerate(other):
            row.append(min(row[at] + 1, above[at + 1] + 1, above[at] + (letter != another)))
    return row[-1]


def _usage_error(what: str) -> "UsageError":
    from .errors import UsageError

    return UsageError(what)
