"""Provisioning a Raspberry Pi: its bundle, in a directory here or over ssh."""
