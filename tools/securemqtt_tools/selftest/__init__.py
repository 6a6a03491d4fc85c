"""The contract's scenarios on a user's board: the way there and back, the broker for the occasion,
the report.
"""
