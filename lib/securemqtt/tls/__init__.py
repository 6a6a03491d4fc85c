"""TLS: the contexts of both libraries, and the certificates and keys that go into them."""
