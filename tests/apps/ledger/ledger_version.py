"""What tells one release's source from another's; variant.py writes it anew."""

VERSION = "1"
