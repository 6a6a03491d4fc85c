"""Cause and remedy where there is no room: in the outbox, on its medium, in memory.

See diagnose.py.
"""

WORDS = {
    "OutboxError": ("the outbox cannot take the message", "see what is said of it"),
    "OutboxFull": (
        "the broker has been out of reach for longer than the outbox can bridge, or messages come "
        "faster than they leave",
        "look at client.last_error; publish less often; or give Client a larger outbox_messages "
        "or outbox_bytes, or outbox_full='drop_oldest'",
    ),
    "MessageTooLarge": (
        "one message is larger than the whole outbox may be",
        "split it, or give Client a larger outbox_bytes",
    ),
    "OutboxInUse": (
        "a second program, or a second Client in this one, was started for the same device",
        "end the other, or give each an outbox_dir of its own",
    ),
    "OutboxNotDurable": (
        "the flash, the card or the disk fails",
        "save what is on it and replace it; messages wait in memory and go on being sent, and the "
        "medium is tried again every minute",
    ),
    "OutboxNotDurable.full": (
        "the file system is full",
        "free some space, or lower outbox_journal_bytes; till then messages wait in memory and go "
        "on being sent",
    ),
    "OutboxNotDurable.read_only": (
        "the file system is read-only, or the directory is not this user's",
        "give Client an outbox_dir that this user may write to; messages wait in memory "
        "meanwhile, and go on being sent",
    ),
    "OutOfMemory": (
        "what the program keeps leaves too little for TLS, or the heap is in pieces; a session "
        "takes about 30 kB",
        "connect before large objects are made; copy the library as .mpy (tools/provision.py "
        "does); lower outbox_bytes and max_packet_bytes",
    ),
}
