"""HiveMQ CE: its files, the extension that gives it rules and revocation, and how it is run."""
