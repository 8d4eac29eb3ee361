"""Lists of sources: what may be in them, and where they come from."""
