"""From power-on to the prompt: mount the flash, put the board's modules in place, run boot.py and
main.py.
"""

import gc
import os
import sys

import board_machine
import board_network
import board_ntptime
import board_os
import board_socket
import board_sys
import board_time
import micropython
import vfs
import wire
from flash import Flash
from prompt import Prompt

_MODULES = {
    "machine": board_machine,
    "network": board_network,
    "ntptime": board_ntptime,
    "os": board_os,
    "socket": board_socket,
    "time": board_time,
}
_OURS = ("board_sys", "flash", "prompt", "wire", "boot_sequence")
_CTRL_C = 3
_FIRST_WITH_RAW_REPL = (1, 27)


def run(main_globals):
    """Boot; `main_globals` is the namespace in which boot.py and main.py run."""
    micropython.kbd_intr(-1)
    settings = wire.ask("hello")
    _mount(settings)
    _name(settings)
    _replace_modules()
    gc.collect()
    wire.tell("started")
    _run_file("boot.py", main_globals)
    if settings["run_main"]:
        _run_file("main.py", main_globals)
    wire.ask("booted")
    if settings["own_prompt"] or sys.implementation.version[:2] < _FIRST_WITH_RAW_REPL:
        Prompt(main_globals).run()


def _mount(settings):
    flash = Flash(settings["image"], settings["counters"], settings["block_bytes"])
    program_bytes = settings["program_bytes"]
    vfs.umount("/")
    try:
        file_system = vfs.VfsLfs2(flash, progsize=program_bytes)
    except OSError:
        vfs.VfsLfs2.mkfs(flash, progsize=program_bytes)
        file_system = vfs.VfsLfs2(flash, progsize=program_bytes)
        wire.tell("formatted")
    vfs.mount(file_system, "/")
    os.chdir("/")


def _name(settings):
    board_sys.name_machine(settings["machine"])
    board_os.name_machine(settings["sysname"], settings["machine"])
    board_time.set_epoch(settings["epoch_year"])
    board_network.name_states(settings["wifi_states"])
    board_machine.set_up(settings)


def _replace_modules():
    for name, module in _MODULES.items():
        sys.modules[name] = sys.modules["u" + name] = module
        del sys.modules[module.__name__]
    sys.modules["sys"] = sys.modules["usys"] = board_sys.Sys()
    for name in _OURS:
        del sys.modules[name]
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv.clear()


def _run_file(name, main_globals):
    try:
        os.stat(name)
    except OSError:
        return
    try:
        micropython.kbd_intr(_CTRL_C)
        execfile(name, main_globals)
    except SystemExit:
        wire.stop("soft_reset")
    except BaseException as error:
        sys.print_exception(error)
    finally:
        micropython.kbd_intr(-1)
