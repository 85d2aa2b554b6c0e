"""Entry point of `python -m bedstone_control`."""

from __future__ import annotations

import sys

from bedstone_control.cli import main

sys.exit(main())
