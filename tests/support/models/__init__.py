"""The client in memory, and models of what must come of it; both interpreters run this."""
