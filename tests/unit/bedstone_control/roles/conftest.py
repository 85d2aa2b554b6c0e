"""A temporary PostgreSQL reads what the role writes."""

from tests.unit.fixtures.cluster import cluster

__all__ = ["cluster"]
