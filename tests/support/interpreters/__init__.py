"""MicroPython, on 64 and on 32 bits, and what tests that run on both interpreters share."""
