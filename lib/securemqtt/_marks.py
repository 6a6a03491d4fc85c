"""Marks on methods that a board does not keep in memory: provisioning moves them to what
`_compat.rarely` lends. Else they do nothing.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import TypeVar

    Method = TypeVar("Method")


def rare(method: "Method") -> "Method":
    """Mark a method that runs once per connection or less."""
    return method


def once(method: "Method") -> "Method":
    """Mark the method that makes an object, when a client is made."""
    return method
