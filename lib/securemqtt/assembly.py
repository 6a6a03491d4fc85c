"""What makes a client's parts, once: not kept in a board's memory, see `_compat.rarely`.

Methods marked with `_compat.once` go here, too.
"""

from ._compat import TYPE_CHECKING, rarely
from .outbox import Outbox

if TYPE_CHECKING:
    from .client import Client


def make_outbox(client: "Client") -> Outbox:
    """Make the outbox that the settings ask for, with what an earlier process has left in it."""
    settings = client._settings
    bounds = settings["outbox_messages"], settings["outbox_bytes"], settings["outbox_full"]
    if settings["outbox"] != "durable":
        return Outbox(*bounds)
    from .journal import DurableOutbox  # imported in the usual way, so that it stays

    outbox = DurableOutbox(*bounds)
    rarely("journal_start").open_outbox(outbox, client, settings)
    return outbox
