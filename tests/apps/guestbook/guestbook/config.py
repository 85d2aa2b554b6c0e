"""What the environment says: DB_DSN, DB_SECRET, HOSTNAMES, APP_KEY, GREETING_FILE."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """The app's settings."""

    dsn: str
    password: str
    hostnames: list[str]
    app_key: bytes
    greeting: str


def load() -> Config:
    """Read the environment; end the program with every missing variable at once."""
    needed = ("DB_DSN", "DB_SECRET", "HOSTNAMES", "APP_KEY", "GREETING_FILE")
    missing = [name for name in needed if not os.environ.get(name)]
    if missing:
        sys.exit(f"guestbook needs these environment variables: {', '.join(missing)}")
    return Config(
        dsn=os.environ["DB_DSN"],
        password=os.environ["DB_SECRET"],
        hostnames=os.environ["HOSTNAMES"].split(","),
        app_key=os.environ["APP_KEY"].encode(),
        greeting=Path(os.environ["GREETING_FILE"]).read_text(encoding="utf-8").strip(),
    )
