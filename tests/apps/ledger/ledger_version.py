"""The version that distinguishes one release's source from another's; variant.py replaces it."""

VERSION = "1"
