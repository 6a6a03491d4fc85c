"""How a release is made: versions and hashes of what it is made with, building, contents, trial."""
