"""What a board needs before it can connect, and to be restarted if it gets stuck."""
