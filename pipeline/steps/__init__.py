"""Steps that only the engine needs."""
