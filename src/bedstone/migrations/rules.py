"""What the running release can't live with, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["incompatible", "blocking"]

# A table from which on work that reads or writes all of it is felt by those who wait for
# it: about a second of it. Either is enough.
BIG_ROWS = 100_000
BIG_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True)
class Rule:
    """One thing that a migration should not do to a schema in use.

    Attributes:
        kind: whether the running release fails on the new schema, or waits for a lock.
        why: what happens to the release that runs meanwhile.
        do: what to do instead.
        tools: what else to do, in the words of a tool.

    """

    kind: Kind
    why: str
    do: str
    tools: Mapping[str, str] = field(default_factory=dict)

    def advice(self, tool: str) -> str:
        """Return what to do, with what the tool offers for it."""
        return " ".join(part for part in (self.do, self.tools.get(tool, "")) if part)


_TWO_RELEASES_DJANGO = (
    "In Django: first take the field out of the state alone (SeparateDatabaseAndState with it in"
    " `state_operations`; give the column a default or null=True before), in the release after"
    " that out of the database."
)

RULES: Mapping[str, Rule] = {
    "drop-column": Rule(
        "incompatible",
        "The running release still names the column in every SELECT and INSERT of this table:"
        " each of them fails from the moment it is gone.",
        "Do it in two releases: one whose code no longer uses the column, then one that drops it,"
        " declared as below.",
        {
            "django": _TWO_RELEASES_DJANGO,
            "alembic": "Take the column out of the model first (nullable or with a server_default"
            " in the database), and drop it in the next release.",
        },
    ),
    "drop-table": Rule(
        "incompatible",
        "The running release still reads and writes it: every such query fails from the moment it"
        " is gone.",
        "Do it in two releases: one whose code no longer uses it, then one that drops it, declared"
        " as below.",
        {
            "django": "In Django: DeleteModel in `state_operations` of SeparateDatabaseAndState"
            " first, in `database_operations` in the release after that.",
        },
    ),
    "rename-column": Rule(
        "incompatible",
        "The running release still calls the column by its old name: every query with it fails.",
        "Expand and contract: add a column with the new name and fill both, move the code over,"
        " and drop the old one a release later. Or let the database keep its name.",
        {
            "django": 'In Django, `db_column="old_name"` on the renamed field changes nothing in'
            " the database.",
            "alembic": 'In SQLAlchemy, `mapped_column("old_name", ...)` renames the attribute'
            " alone.",
        },
    ),
    "rename-table": Rule(
        "incompatible",
        "The running release still calls it by its old name: every query with it fails.",
        "Let the database keep its name, or leave a view with the old name in the same migration"
        " (`CREATE VIEW old AS SELECT * FROM new`) and drop it a release later.",
        {
            "django": 'In Django, `Meta.db_table = "old_name"` renames the model alone.',
            "alembic": 'In SQLAlchemy, `__tablename__ = "old_name"` renames the class alone.',
        },
    ),
    "not-null-without-default": Rule(
        "incompatible",
        "The running release doesn't know the column and leaves it out of its INSERTs: each of"
        " them fails, since the database has no value for it.",
        "Give the column a default in the database, or let it take NULL; a later release may"
        " tighten it.",
        {
            "django": "In Django 5: `db_default=...` on the field (`default=` is Python's alone,"
            " Django takes it out of the database again). Before Django 5: null=True.",
            "alembic": "In Alembic: `sa.Column(..., nullable=False, server_default=...)`, and"
            " leave the default in place.",
        },
    ),
    "set-not-null": Rule(
        "incompatible",
        "The running release may still write NULL into the column: such an INSERT or UPDATE fails.",
        "Do it in two releases: one whose code always writes a value, then one that forbids NULL,"
        " declared as below. On a big table add `CHECK (c IS NOT NULL) NOT VALID` and VALIDATE it"
        " before, so that SET NOT NULL needs no scan.",
    ),
    "type-change": Rule(
        "incompatible",
        "The running release reads and writes the old type; PostgreSQL also rewrites the table and"
        " its indexes under a lock that lets nobody read it.",
        "Expand and contract: add a column of the new type, fill both, move the code over, and drop"
        " the old one a release later. A longer varchar, and varchar to text, are free and need"
        " none of it.",
    ),
    "rename-value": Rule(
        "incompatible",
        "The running release still writes and compares with the old value: such queries fail.",
        "Add the new value (`ALTER TYPE ... ADD VALUE`), let the code understand both, and move the"
        " rows over a release later.",
    ),
    "blocking-index": Rule(
        "blocking",
        "The table is big, and nobody can write to it until the index is built.",
        "Build it CONCURRENTLY, outside of a transaction.",
        {
            "django": "In Django: AddIndexConcurrently of django.contrib.postgres.operations, in a"
            " migration with `atomic = False`. For a unique field: RunSQL with CREATE UNIQUE INDEX"
            " CONCURRENTLY in `database_operations` of SeparateDatabaseAndState, and AlterField or"
            " AddConstraint in its `state_operations`.",
            "alembic": "In Alembic: `with op.get_context().autocommit_block():"
            " op.create_index(..., postgresql_concurrently=True)`.",
        },
    ),
    "blocking-constraint": Rule(
        "blocking",
        "The table is big, and nobody can write to it, nor mostly read it, until PostgreSQL has"
        " checked every row.",
        "Add CHECK and FOREIGN KEY as NOT VALID and VALIDATE them in a migration of its own; for"
        " UNIQUE and PRIMARY KEY build the index CONCURRENTLY and add the constraint USING INDEX.",
        {
            "django": "In Django: AddConstraintNotValid for a CHECK, and ValidateConstraint in a"
            " second migration (django.contrib.postgres.operations); the others by RunSQL in"
            " `database_operations` of SeparateDatabaseAndState.",
            "alembic": "In Alembic: `op.create_foreign_key(..., postgresql_not_valid=True)`, then"
            ' `op.execute("ALTER TABLE ... VALIDATE CONSTRAINT ...")` in a second migration.',
        },
    ),
    "table-rewrite": Rule(
        "blocking",
        "The table is big, and nobody can even read it until PostgreSQL has written it anew.",
        "Add a column that takes NULL and has no default or a constant one, fill it in batches"
        " while the app runs, and move over. For a bigger integer: a new column, filled by a"
        " trigger and in batches, swapped in later.",
    ),
}
