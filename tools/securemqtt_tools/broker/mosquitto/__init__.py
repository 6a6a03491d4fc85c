"""Mosquitto: its configuration for the version that is installed, also as a system's service."""
