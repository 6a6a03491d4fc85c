"""A program as a service of systemd: its unit, what could go wrong with it, putting it in place."""
