"""The arguments of each role."""
