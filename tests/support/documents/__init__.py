"""Programs that write documents and package files from the source of the library."""
