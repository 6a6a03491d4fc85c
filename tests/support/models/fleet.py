"""A fleet that comes back after its broker was away, simulated with the shipped back-off.

No typing here: MicroPython imports this, too.
"""

from securemqtt.protocol.backoff import next_delay


def arrivals(uniform: "object", clients: int, away_s: int) -> "dict[int, int]":
    """Give, per second after the broker's return, how many of `clients` that lost it at the same
    moment connect.

    `uniform(a, b)` is the jitter: a random integer from a to b, both included.
    """
    found = {}
    for _ in range(clients):
        now_ms = failures = 0
        while now_ms < away_s * 1000:
            delay_ms, failures = next_delay(uniform, failures)
            now_ms += delay_ms
        second = now_ms // 1000 - away_s
        found[second] = found.get(second, 0) + 1
    return found
