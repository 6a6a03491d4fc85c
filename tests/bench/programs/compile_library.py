"""Compile a checkout's library as its own provisioning does: `python compile_library.py TOOLS
PACKAGE VERSION TARGET`.

A process of its own, so that TOOLS, the folder that holds securemqtt_tools, can be another
checkout's than the benchmark's; also one from before the tools had a package `provision`.
"""

import sys
from pathlib import Path


def compiled(package, mpy_version, cache):
    """Return the modules of lib/securemqtt for boards that load this version: name, content."""
    try:
        from securemqtt_tools.provision.board.compiler import Compiler
        from securemqtt_tools.provision.board.library import board_sources
    except ModuleNotFoundError as error:
        if error.name != "securemqtt_tools.provision":
            raise
        from securemqtt_tools.board.library import compile_library

        return compile_library(package, mpy_version)
    return Compiler(cache).compile(board_sources(package), mpy_version)


tools, package, version, target = sys.argv[1:]
sys.path[:0] = [tools, str(Path(package).parent)]
modules = compiled(Path(package), int(version), Path(target).parent / "cache")
for name, content in modules.items():
    path = Path(target) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
