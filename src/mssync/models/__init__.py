"""Networks. No I/O, no losses."""
