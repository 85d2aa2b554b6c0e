"""Plugins by their plain names, and a PostgreSQL without a role or database of an app."""

from tests.unit.fixtures import plain_names
from tests.unit.fixtures.cluster import Cluster, cluster

__all__ = ["Cluster", "cluster", "plain_names"]
