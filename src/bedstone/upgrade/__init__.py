"""PostgreSQL upgrades: minor ones at a chosen moment, major ones rehearsed and with a way back."""
