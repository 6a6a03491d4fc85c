"""Simulated boards: their serial line, the real mpremote, the real provisioning."""
