"""Messages that the broker has not acknowledged yet: in memory, and in a journal if wished."""

from ..platform import const
from .memory import Outbox

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..settings import Settings
    from .durable import Owner


def make_outbox(settings: "Settings", owner: "Owner") -> Outbox:
    """Return the outbox that a client is to have. Raise OutboxInUse."""
    if settings.outbox == "durable":
        from .durable import DurableOutbox

        return DurableOutbox(settings, owner)
    return Outbox(settings.outbox_messages, settings.outbox_bytes, settings.outbox_full)
