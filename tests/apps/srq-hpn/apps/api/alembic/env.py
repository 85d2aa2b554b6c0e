"""Alembic's connection: the migration role's, with which no running service logs in."""

from alembic import context
from sqlalchemy import create_engine, pool

from app import database

engine = create_engine(database.url("DATABASE_URL_ADMIN"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=database.Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
