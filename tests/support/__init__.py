"""What tests share; requirements.py says what must be on this machine for them."""
