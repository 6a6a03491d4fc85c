"""Broker with mutual TLS: the same as `securemqtt broker`. See `--help`."""

from _run import run

run("broker")
