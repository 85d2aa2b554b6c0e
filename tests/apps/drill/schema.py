"""Makes the app's tables."""

import os

import psycopg

with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS entries (id text PRIMARY KEY, body text)")
