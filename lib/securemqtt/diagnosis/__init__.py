"""From what the network or a TLS library says went wrong to an error with cause and remedy."""
