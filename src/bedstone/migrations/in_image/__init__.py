"""The probes: scripts that run in an app's image, by whatever Python it has.

They are read as text and never imported here. An image may be older than this server:
Python 3.8, Django 3.2 and Alembic 1.7 are enough for them.
"""
