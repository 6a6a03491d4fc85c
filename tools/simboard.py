"""Simulated board on a serial port: the same as `securemqtt simboard`. See `--help`."""

from _run import run

run("simboard")
