"""Provisioning a board with MicroPython, over its serial line."""
