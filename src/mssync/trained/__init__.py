"""Trained networks as files, apart from what trains them."""
