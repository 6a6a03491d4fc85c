"""What a broker's log says of who came and went: one reader for each kind of broker, what is odd
about it, and how the log is read.

A log has what a hostile client chose. So a reader takes from a line what the broker itself wrote,
by its place; what may be a client's is an id only where it is one as a whole, and else a part of a
reason, escaped and cut.
"""
