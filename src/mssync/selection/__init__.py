"""Which clips are used, which part of each, and why not the others."""
