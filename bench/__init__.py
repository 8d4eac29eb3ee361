"""Measurements: `python -m bench.NAME [--json FILE]` prints figures taken side by side."""
