"""MQTT 3.1.1 as far as it needs neither network nor clock: packets, sessions, topics, back-off."""
