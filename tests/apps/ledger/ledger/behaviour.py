"""What this app does wrong on purpose: baked into the source, or asked for by the environment."""

import os

# variant.py replaces it.
BAKED: frozenset[str] = frozenset()


def has(name: str) -> bool:
    """Say whether the app is to do this wrong."""
    return name in BAKED or name in os.environ.get("LEDGER_BEHAVIOUR", "").split(",")
