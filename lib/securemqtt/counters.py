"""What `Client.stats` gives."""

from ._compat import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client


def counters(client: "Client") -> "dict[str, int]":
    """Return a client's counters by name.

    On a board `_stats` is a list: provisioning has its names be indices.
    """
    stats = dict(client._stats)
    stats["reconnects"] = max(0, stats["connects"] - 1)
    stats["dropped"] = client._outbox.dropped + client._outbox.expired
    return stats
