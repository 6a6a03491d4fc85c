"""Certificates, bundles and authorities, also such as ours would never make."""
