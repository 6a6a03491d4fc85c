"""What lies between a device and its broker: ports, a proxy that misbehaves, a name server."""
