"""The device bundle on disk: where it is, and its files, with a clear error for each mishap.

Its format is in docs/ARCHITECTURE.md.
"""

import json
import os

from .platform import bundle_places, const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any


def find(path: "str | None") -> str:
    """Return the bundle's directory: `path`, else the first of the usual places that has one.

    Raise BundleNotFound.
    """
    places = [path] if path else bundle_places()
    for place in places:
        if _exists(place + "/config.json"):
            return place
    from .errors import BundleNotFound

    raise BundleNotFound("no config.json in {}".format(" or ".join(places)))


def read(directory: str, name: object) -> bytes:
    """Read one file of the bundle whole. Raise FileMissing, or FileTruncated if it is empty."""
    path = path_of(directory, name)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        from .errors import FileMissing

        raise FileMissing(path + " cannot be read", error.errno, about=path)
    if not content:
        from .errors import FileTruncated

        raise FileTruncated(path + " is empty", about=path)
    return content


def read_json(directory: str, name: str) -> "dict[str, Any]":
    """Read one file of the bundle that holds a JSON object. Raise FileMissing, FileTruncated."""
    try:
        content = json.loads(read(directory, name))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        from .errors import FileTruncated

        path = path_of(directory, name)
        raise FileTruncated(path + " is not a whole JSON object", about=path)
    return content


def read_password(directory: str, name: str) -> str:
    """Read a password from an owner-only file; the end of its line is no part of it."""
    path = path_of(directory, name)
    check_private(path)
    try:
        return read(directory, name).decode().rstrip("\r\n")
    except ValueError:
        from .errors import FileTruncated

        raise FileTruncated(path + " is not UTF-8", about=path)


def check_private(path: str) -> None:
    """Raise FileNotPrivate if others than its owner may read or change a file with a secret.

    A board's files have no owner.
    """
    try:
        mode = os.stat(path)[0] & 0o777
    except OSError as error:
        from .errors import FileMissing

        raise FileMissing(path + " cannot be read", error.errno, about=path)
    if mode & 0o077:
        from .errors import FileNotPrivate

        what = path + " is open to others than its owner"
        raise FileNotPrivate(what, "{:04o}".format(mode), about=path)


def path_of(directory: str, name: object) -> str:
    """Return the path of a file that config.json names: relative to the bundle unless absolute."""
    text = str(name)
    return text if text[:1] == "/" or not directory else directory + "/" + text


def names(value: "Any") -> "list[str]":
    """Return the files that an entry of config.json lists: one name or a list of names."""
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True
