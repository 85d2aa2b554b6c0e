"""The database: the URL in the environment, for SQLAlchemy with psycopg."""

import os
from datetime import datetime

from sqlalchemy import URL, String, func, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def url(variable: str) -> URL:
    """Return the URL that a variable holds."""
    return make_url(os.environ[variable]).set(drivername="postgresql+psycopg")


class Base(DeclarativeBase):
    """All tables."""


class Event(Base):
    """Something that takes place."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
