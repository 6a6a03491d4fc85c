"""One module per interpreter behind the contract in `contract.py`: `umqtt` on MicroPython, `paho`
on CPython.
"""
