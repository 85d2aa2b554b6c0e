"""The state of the server: status, metrics, health of PostgreSQL."""
