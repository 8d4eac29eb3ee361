"""Losses, one per file. Pure functions of tensors."""
