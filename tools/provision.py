"""Put certificates and the library on a board or a Raspberry Pi: the same as `securemqtt
provision`. See `--help`.
"""

from _run import run

run("provision")
