"""Brokers of several kinds, well-behaved and not, and a bare client that sees each packet."""
