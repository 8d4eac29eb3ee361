"""What is measured, with its intervals. Pure functions of arrays."""
