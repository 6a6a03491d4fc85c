"""Reading the files of a device bundle, with a clear error for each way in which that fails."""

import json
import os

from ._compat import TYPE_CHECKING
from .failure import failure

if TYPE_CHECKING:
    from typing import Any


def read(directory: str, name: object) -> bytes:
    """Read one file of the bundle whole."""
    path = full_name(directory, name)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise failure("FileMissing", path + " cannot be read", error.errno)
    if not content:
        raise failure("FileTruncated", path + " is empty")
    return content


def read_json(directory: str, name: str) -> "dict[str, Any]":
    """Read one file of the bundle that holds a JSON object."""
    try:
        content = json.loads(read(directory, name))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise failure("FileTruncated", full_name(directory, name) + " is not a whole JSON object")
    return content


def check_private(path: str) -> None:
    """Raise FileNotPrivate if anyone but its owner may read or change a file that holds a secret; a
    board's files have no owner.
    """
    try:
        mode = os.stat(path)[0] & 0o777
    except OSError as error:
        raise failure("FileMissing", path + " cannot be read", error.errno)
    if mode & 0o077:
        raise failure(
            "FileNotPrivate", path + " is open to others than its owner", "{:04o}".format(mode)
        )


def full_name(directory: str, name: object) -> str:
    """Return the path of a file that config.json names: relative to the bundle unless it starts
    with /.
    """
    text = str(name)
    return text if text[:1] == "/" or not directory else directory + "/" + text


def names(value: "Any") -> "list[str]":
    """Return the files that an entry of config.json lists: one name or a list of names."""
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)
