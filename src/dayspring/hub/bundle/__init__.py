"""Everything an installation needs in one file, for a network without an index."""
