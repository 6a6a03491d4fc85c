"""The host side of securemqtt: certificate authority, broker, provisioning, simulated board.

CPython only.
"""
