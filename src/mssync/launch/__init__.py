"""A training in one process, in several of this machine, or on several machines."""
