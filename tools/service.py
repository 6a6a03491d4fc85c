"""A program as a service of systemd: the same as `securemqtt service`. See `--help`."""

from _run import run

run("service")
