"""Define what is incompatible with the running release, and the alternative to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["incompatible", "blocking", "failing"]

# A table from which on work that reads or writes all of it is felt by those who wait for
# it: about a second of it. Either is enough.
BIG_ROWS = 100_000
BIG_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True)
class Rule:
    """One thing that a migration should not do to a schema in use.

    Attributes:
        kind: whether the running release fails on the new schema, waits for a lock, or the
            migration itself fails.
        why: what happens to the release that is running.
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
    "drop-object": Rule(
        "incompatible",
        "The running release may still use it: every query that names it fails from the moment it"
        " is gone, and CASCADE takes columns and views along.",
        "Do it in two releases: one whose code no longer uses it, then one that drops it, declared"
        " as below. To change a function, CREATE OR REPLACE it, or create it again in the same"
        " migration.",
    ),
    "rename-object": Rule(
        "incompatible",
        "The running release still calls it by its old name: every query that names it fails.",
        "Add the object under its new name, move the code over, and drop the old one a release"
        " later.",
    ),
    "revoke": Rule(
        "incompatible",
        "The running release may still need the privilege: its queries fail with `permission"
        " denied`.",
        "Revoke it in the release after the one whose code no longer needs it, declared as below.",
    ),
    "row-security": Rule(
        "incompatible",
        "Row security decides for the app's role, which doesn't own the table, which rows it sees:"
        " without a policy that lets it, it sees none and writes none, in the running release too.",
        "Create the policies first and let the running release set what they ask for; enable row"
        " security a release later, declared as below.",
    ),
    "new-constraint": Rule(
        "incompatible",
        "The running release may still write rows that the constraint refuses: such an INSERT,"
        " UPDATE or DELETE fails.",
        "Do it in two releases: one whose code keeps the rule, then one that lets the database"
        " enforce it, declared as below if the running release keeps it already.",
    ),
    "drop-default": Rule(
        "incompatible",
        "The column takes no NULL, and the running release may leave it out of its INSERTs: each of"
        " them fails without the default.",
        "Keep the default until the release that always writes a value serves, and drop it in the"
        " next, declared as below.",
    ),
    "drop-not-null": Rule(
        "incompatible",
        "The new release may write NULL where the running release, or one that is rolled back to,"
        " expects a value.",
        "Do it in two releases: one whose code can read NULL, then one that allows it, declared as"
        " below.",
    ),
    "delete-rows": Rule(
        "incompatible",
        "The rows are gone for the running release from this moment, and no rollback of the code"
        " brings them back.",
        "Do it in the release after the one whose code no longer needs them, declared as below; the"
        " restore point of the release has them.",
    ),
    "concurrently-in-transaction": Rule(
        "failing",
        "PostgreSQL refuses CONCURRENTLY inside a transaction, and the tool runs this migration in"
        " one: it would fail.",
        "Run it outside of a transaction.",
        {
            "django": "In Django: `atomic = False` on the class Migration, with this operation"
            " alone in it.",
            "alembic": "In Alembic: `with op.get_context().autocommit_block():`.",
        },
    ),
    "lock-table": Rule(
        "blocking",
        "The table is big and in use, and it stays locked until the migration's transaction ends.",
        "Lock no table in a migration; work in batches, each in a transaction of its own.",
    ),
    "update-all-rows": Rule(
        "blocking",
        "The table is big: each row is written again and stays locked until the transaction ends,"
        " so every request that writes one of them waits.",
        "Fill it in batches, each in a transaction of its own, outside of the release.",
        {
            "django": "In Django: a migration with `atomic = False` whose function updates some"
            " thousand rows at a time, or a management command.",
        },
    ),
    "blocking-refresh": Rule(
        "blocking",
        "Readers of the materialized view wait until all of it is computed.",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY (it takes a unique index), or refresh it in a job"
        " after the release.",
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
        "The table is big, and can't even be read until PostgreSQL has written all of it.",
        "Add a column that takes NULL and has no default or a constant one, fill it in batches"
        " while the app runs, and move over. For a bigger integer: a new column, filled by a"
        " trigger and in batches, swapped in later.",
    ),
}
