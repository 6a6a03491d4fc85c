"""Run the test functions of one file under MicroPython: `micropython run_tests.py test_topics`.

Told from pytest by its name.
"""

import os
import sys

# First: below the imports of a test's own models, source that is compiled there needs more than the
# 40 kB of stack that MicroPython for Linux has on 32 bits.
import securemqtt  # noqa: F401
from support.interpreters.either import Skipped

# What a line of the account starts with, so that it is told from what a test prints.
MARK = "=== "


def main() -> None:
    directory = os.getenv("SECUREMQTT_TEST_DIRECTORY")
    module = __import__(sys.argv[1])
    for name in sorted(dir(module)):
        if not name.startswith("test_"):
            continue
        print(MARK + "run " + name)
        os.mkdir(directory + "/" + name)  # noqa: PTH102  (MicroPython has no pathlib)
        os.putenv("SECUREMQTT_TEST_DIRECTORY", directory + "/" + name)
        try:
            getattr(module, name)()
        except Skipped as reason:
            print(reason)
            print(MARK + "skipped " + name)
        except Exception as error:  # noqa: BLE001  (whatever a test raises is its failure)
            sys.print_exception(error)
            print(MARK + "failed " + name)
        else:
            print(MARK + "passed " + name)


main()
