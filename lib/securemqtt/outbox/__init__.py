"""Messages that the broker has not acknowledged yet: in memory, and in a journal if wished."""
