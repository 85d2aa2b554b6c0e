"""PostgreSQL: clusters, dumps, roles and privileges."""
