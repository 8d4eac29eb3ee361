"""Can the chain run here? Checks of machine and workspace, and a small run of everything."""
