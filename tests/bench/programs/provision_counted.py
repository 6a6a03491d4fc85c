"""Run `securemqtt provision` with these arguments; print what it took of this machine's time, in
seconds of processor, its children included, and how many modules were compiled.
"""

import resource
import sys
from pathlib import Path

from securemqtt_tools.cli import main

compiled = []


def watch(event, details):
    """Note each module that mpy-cross is started for."""
    if event == "subprocess.Popen":
        arguments = [str(argument) for argument in details[1]]
        if Path(arguments[0]).name.startswith("mpy-cross") and arguments[-1].endswith(".py"):
            compiled.append(arguments[-1])


sys.addaudithook(watch)
status = main(sys.argv[1:], command="provision")
seconds = sum(
    usage.ru_utime + usage.ru_stime
    for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
)
print("figure", seconds, len(compiled))
sys.exit(status)
