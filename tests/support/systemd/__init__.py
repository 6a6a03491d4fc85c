"""A real systemd for tests, in namespaces of its own."""
