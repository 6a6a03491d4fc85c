"""What tests that run on both interpreters share.

No pytest and no typing here: MicroPython imports this, too.
"""

import os
import random

MICROPYTHON = not hasattr(random, "SystemRandom")
# By how much a randomised test is to try more than `make test` has it.
SWEEP = int(os.getenv("SECUREMQTT_SWEEP") or 1)


class Skipped(Exception):
    """This test has nothing to say on this interpreter: for the runner for MicroPython."""


def only_if(held: bool, reason: str) -> object:
    """Make a decorator for a test that has something to say only if `held`; else pytest, and the
    runner for MicroPython, count it as skipped, for this reason.
    """
    if held:
        return lambda test: test
    if not MICROPYTHON:
        import pytest

        return pytest.mark.skip(reason=reason)

    def skipped() -> None:
        raise Skipped(reason)

    return lambda test: skipped


micropython_only = only_if(MICROPYTHON, "MicroPython only")
cpython_only = only_if(not MICROPYTHON, "CPython only")


def raised(name: str, function: object, *arguments: object, **options: object) -> "object":
    """Call a function that must raise an exception of the class called `name`, or of one under it;
    return the exception.
    """
    try:
        result = function(*arguments, **options)
    except Exception as error:
        if name in class_names(type(error)):
            return error
        raise
    raise AssertionError(f"{name} was not raised; the function gave {result!r}")


def class_names(kind: type) -> "list[str]":
    """Return the names of a class and of all above it."""
    names = [kind.__name__]
    for parent in kind.__bases__:
        names += class_names(parent)
    return names


def scratch() -> str:
    """Return a directory to write in, which goes away after the test; conftest.py and the runner
    for MicroPython set it.
    """
    return os.getenv("SECUREMQTT_TEST_DIRECTORY")


def directory(name: str) -> str:
    """Return the directory of this name under `scratch`, made if it is not there."""
    path = scratch() + "/" + name
    if name not in os.listdir(scratch()):  # noqa: PTH208  (MicroPython has no pathlib)
        os.mkdir(path)  # noqa: PTH102
    return path


def set_mode(path: str, mode: str) -> None:
    """Set a file's mode, such as 600."""
    assert os.system(f"chmod {mode} '{path}'") == 0  # noqa: S605  (MicroPython has no os.chmod)


def copy_files(source: str, target: str) -> None:
    """Copy the files of a directory into another."""
    for name in os.listdir(source):  # noqa: PTH208
        with open(source + "/" + name, "rb") as file:  # noqa: PTH123
            write(target + "/" + name, file.read())


def write(path: str, content: "bytes | str") -> None:
    """Write a file."""
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(content.encode() if isinstance(content, str) else content)


class Random:
    """A source of random numbers that gives the same ones on both interpreters (xorshift32), so
    that a seed can be carried over.
    """

    def __init__(self, seed: int) -> None:
        self._state = (seed * 2654435761 + 1) & 0xFFFFFFFF or 1

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1."""
        state = self._state
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        self._state = state
        return (state >> 3) % bound

    def between(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included, as random.randint does."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """Return true in `percent` of 100 cases."""
        return self.below(100) < percent

    def pick(self, choices: "object") -> "object":
        """Return one of a sequence."""
        return choices[self.below(len(choices))]

    def data(self, size: int) -> bytes:
        """Return `size` random bytes."""
        return bytes(self.below(256) for _ in range(size))


def for_seeds(count: int, trial: object) -> None:
    """Call `trial(Random(seed))` for `count` seeds, other ones in each run, and print them; under
    MicroPython, which is slower and runs each test in two forms, for a quarter as many.

    SECUREMQTT_SEED repeats one seed only, which a failure prints; SECUREMQTT_SWEEP multiplies the
    count.
    """
    given = os.getenv("SECUREMQTT_SEED")
    if MICROPYTHON:
        count = (count + 3) // 4
    start = int(given) if given else int.from_bytes(os.urandom(3), "big")
    count = 1 if given else count * SWEEP
    for seed in range(start, start + count):
        try:
            trial(Random(seed))
        except BaseException:
            print(f"to repeat this: SECUREMQTT_SEED={seed}")
            raise
    print(f"seeds {start} to {start + count - 1} held")
