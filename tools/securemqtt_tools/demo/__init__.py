"""The demonstration: the whole system on this machine, from the certificate authority to the
intruders, checked step by step.
"""
