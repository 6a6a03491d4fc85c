"""Provisioning: what a device needs is put on it, and it is judged by what it shows."""
