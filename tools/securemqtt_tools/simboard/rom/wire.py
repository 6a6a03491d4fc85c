"""The line from the board to the simulator around it: one JSON array per line, on file descriptor
3.

What a board does with its radio, its clock's crystal and its power, this board asks the simulator
for.
"""

import json

_channel = open(3, "r+b")
_sequence = 0


def ask(verb, *arguments):
    """Ask the simulator and return its answer; OSError with the error number that it names."""
    global _sequence
    tell(verb, *arguments)
    sequence = _sequence
    while True:
        # An answer whose wait was cut short by Ctrl-C may still be in the line, or the rest of one.
        try:
            answered, error, value = json.loads(_channel.readline())
        except ValueError:
            continue
        if answered == sequence:
            break
    if error:
        raise OSError(error)
    return value


def tell(verb, *arguments):
    """Tell the simulator something that has no answer worth waiting for."""
    global _sequence
    _sequence += 1
    _channel.write((json.dumps([_sequence, verb, arguments]) + "\n").encode())


def stop(verb, *arguments):
    """Ask for the end of this interpreter (a reset, the power gone) and wait for it."""
    tell(verb, *arguments)
    while True:
        _channel.readline()
