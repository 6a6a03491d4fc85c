"""The whole system on this machine, with intruders: the same as `securemqtt demo`. See `--help`."""

from _run import run

run("demo")
