"""Certificate authority: the same as `securemqtt ca`. See `--help`."""

from _run import run

run("ca")
