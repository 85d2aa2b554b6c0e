"""Bare Debian servers on this machine, for the demo and for Molecule."""
