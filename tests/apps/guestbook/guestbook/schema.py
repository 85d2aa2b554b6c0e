"""`python -m guestbook.schema`: brings the database's tables up to date. Safe to run again."""

from __future__ import annotations

import psycopg

from guestbook import config

# One entry a version, oldest first; never changed once released.
VERSIONS = (
    """
    CREATE TABLE entries (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL CHECK (name <> ''),
        message text NOT NULL CHECK (message <> '')
    )
    """,
    "ALTER TABLE entries ADD COLUMN written_at timestamptz NOT NULL DEFAULT now()",
)


def main() -> None:
    """Apply the versions that the database lacks, each in a transaction."""
    settings = config.load()
    with psycopg.connect(settings.dsn, password=settings.password, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version int PRIMARY KEY)")
        done = {row[0] for row in connection.execute("SELECT version FROM schema_version")}
        for number, statement in enumerate(VERSIONS, 1):
            if number in done:
                continue
            with connection.transaction():
                connection.execute(statement)
                connection.execute("INSERT INTO schema_version VALUES (%s)", (number,))
            print(f"schema: version {number} applied")


if __name__ == "__main__":
    main()
