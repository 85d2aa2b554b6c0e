"""Names of units, containers, images and networks: built and parsed."""

from __future__ import annotations

HTTP_SLOTS = ("blue", "green")
