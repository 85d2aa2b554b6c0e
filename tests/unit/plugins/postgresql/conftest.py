"""A temporary PostgreSQL; conftest.py above gives the modules their plain names."""

from tests.unit.fixtures.cluster import Cluster, cluster

__all__ = ["Cluster", "cluster"]
