"""Whether a key is its certificate's.

mbedTLS takes any two, and only the broker would notice. Loaded for one look: `_compat.rarely`.
"""

from .. import files
from .._compat import TYPE_CHECKING
from ..failure import failure

if TYPE_CHECKING:
    from typing import Any


def check(settings: "dict[str, Any]", key: bytes) -> None:
    """Raise KeyMismatch where the files show it: that of an EC key ends in its public point (RFC
    5915), whose x the certificate has too.

    RSA keys, and keys without their public half, are left to the handshake.
    """
    name = files.names(settings["certificate"])[0]
    certificate = files.read(settings["path"], name)
    for size in (32, 48):  # of a coordinate, in bytes: P-256 and P-384
        point = key[-2 * size - 4 :]  # as a BIT STRING in DER, uncompressed
        if point[:4] == bytes((3, 2 * size + 2, 0, 4)) and point[4 : 4 + size] not in certificate:
            path = files.full_name(settings["path"], settings["key"])
            raise failure(
                "KeyMismatch",
                path + " is not the key of " + files.full_name(settings["path"], name),
            )
