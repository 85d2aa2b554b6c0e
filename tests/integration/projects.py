"""Projects with migrations, written into a folder that stands for an app's image."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedstone import migrations
from bedstone.apps.config import App, Commands, Image, Service
from bedstone.core.process import Completed, run
from bedstone.migrations import Report
from bedstone.postgres.server import USER, Server
from tests.integration.cluster import ADMINISTRATOR

SECONDS = 240
# Another Python with another Django or Alembic can stand for an image's.
PROGRAMS = Path(os.environ.get("BEDSTONE_IMAGE_PROGRAMS") or Path(sys.executable).parent)

SETTINGS = """
import os
SECRET_KEY = "x" * 50
INSTALLED_APPS = ["django.contrib.contenttypes", "shop", "stock"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["DATABASE"], "USER": os.environ["PGUSER"],
    "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
}}
"""
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project_settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


@dataclass
class Project:
    """A folder with an app, and the database it uses.

    Attributes:
        folder: stands for the image.
        server: where the database is.
        database: its name.
        tool: its migrations' tool.
        migrate: its declared migrate commands.
        variables: more of its environment.

    """

    folder: Path
    server: Server
    database: str
    tool: str
    migrate: tuple[tuple[str, ...], ...]
    variables: dict[str, str] = field(default_factory=dict)

    def write(self, path: str, text: str) -> None:
        """Write a file of the project."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")

    def run(self, *command: str, check: bool = True, **variables: str) -> Completed:
        """Run a command as the image would."""
        environment = {
            "PGHOST": self.server.socket,
            "PGPORT": str(self.server.port),
            "PGUSER": USER,
            "DATABASE": self.database,
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            **self.variables,
            **variables,
        }
        return run(command, env=environment, cwd=str(self.folder), timeout=SECONDS, check=check)

    def upgrade(self) -> None:
        """Run the declared migrate commands."""
        for command in self.migrate:
            self.run(*command)

    def app(self) -> App:
        """Return the app as it would be declared."""
        return App(
            name="shop",
            domains=(),
            image=Image("load", archive="x"),
            services={"web": Service("web")},
            environment_file="x",
            network="x",
            commands=Commands(migrate=self.migrate),
            migrations=self.tool,
        )

    def asked(self, keep: Sequence[str] | None = None, *, check: bool = True) -> Completed:
        """Run the probe."""
        probe = migrations.probe(self.app(), keep=keep)
        assert probe is not None
        script = self.folder.parent / "probe.py"
        script.write_text(probe.script, encoding="utf-8")
        command = [part.replace(migrations.PATH, str(script)) for part in probe.command]
        return self.run(*command, check=check, **probe.variables)

    def checked(self, *options: str) -> Completed:
        """Run the check, and the probe in the same start."""
        app = self.app()
        check = ("python", "manage.py", "check", *options)
        app = replace(app, commands=replace(app.commands, check=(check,)))
        return self._together(migrations.probe_after_check(app))

    def collected(self, *options: str) -> Completed:
        """Migrate, and collect the static files in the same start."""
        app = self.app()
        static = ("python", "manage.py", "collectstatic", "--noinput", *options)
        app = replace(app, commands=replace(app.commands, static=(static,)))
        return self._together(migrations.migrate_and_collect(app))

    def _together(self, probe: migrations.Probe | None) -> Completed:
        assert probe is not None
        script = self.folder.parent / "probe.py"
        script.write_text(probe.script, encoding="utf-8")
        command = [part.replace(migrations.PATH, str(script)) for part in probe.command]
        return self.run(*command, check=False, **probe.variables)

    def report(self, keep: Sequence[str] | None = None) -> Report:
        """Return what the probe reports."""
        return migrations.parse(self.asked(keep).output)

    def sql(self, statements: str) -> str:
        """Run SQL in the database."""
        administrator = replace(self.server, role=ADMINISTRATOR, options="")
        return administrator.execute(statements, self.database)


def django(folder: Path, server: Server, database: str) -> Project:
    """Return a project with Django, whose apps `shop` and `stock` have no migrations yet."""
    project = Project(
        folder, server, database, "django", (("python", "manage.py", "migrate", "--noinput"),)
    )
    project.write("project_settings.py", SETTINGS)
    project.write("manage.py", MANAGE)
    for app in ("shop", "stock"):
        project.write(f"{app}/__init__.py", "")
        project.write(f"{app}/migrations/__init__.py", "")
    return project


def migration(
    project: Project,
    name: str,
    operations: str,
    *,
    after: Sequence[str] = (),
    more: str = "",
    before: str = "",
) -> None:
    """Write a migration of Django.

    Args:
        project: where.
        name: ``shop.0001_initial``.
        operations: Python's text of them.
        after: the migrations it depends on.
        more: further lines of the class.
        before: lines in front of the class.

    """
    app, _, file = name.partition(".")
    dependencies = [tuple(each.split(".")) for each in after]
    lines = [
        "from django.db import migrations, models",
        "import django.db.models.deletion",
        *textwrap.dedent(before).splitlines(),
        "class Migration(migrations.Migration):",
        f"    dependencies = {dependencies!r}",
        *(f"    {line}" for line in textwrap.dedent(more).splitlines()),
        "    operations = [",
        textwrap.indent(textwrap.dedent(operations), "        "),
        "    ]",
    ]
    project.write(f"{app}/migrations/{file}.py", "\n".join(lines) + "\n")


ALEMBIC_INI = """
[alembic]
script_location = migrations
prepend_sys_path = .
"""
ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool
engine = create_engine(
    "postgresql+psycopg://", poolclass=pool.NullPool,
    connect_args={"host": os.environ["PGHOST"], "dbname": os.environ["DATABASE"]},
)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


def alembic(folder: Path, server: Server, database: str) -> Project:
    """Return a project with Alembic that has no revisions yet."""
    project = Project(folder, server, database, "alembic", (("alembic", "upgrade", "head"),))
    project.write("alembic.ini", ALEMBIC_INI)
    project.write("migrations/env.py", ENV)
    (folder / "migrations" / "versions").mkdir()
    return project


def revision(
    project: Project,
    name: str,
    upgrade: str,
    downgrade: str | None = "pass",
    *,
    after: str | Sequence[str] | None = None,
    before: str = "",
) -> None:
    """Write a revision of Alembic.

    Args:
        project: where.
        name: its identity, which is its title too.
        upgrade: body of `upgrade()`.
        downgrade: body of `downgrade()`; None for a revision that has none.
        after: what it revises; several for a merge.
        before: lines in front of the functions.

    """
    down = tuple(after) if after is not None and not isinstance(after, str) else after
    lines = [
        f'"""what {name} does"""',
        "from alembic import op",
        "import sqlalchemy as sa",
        f"revision = {name!r}",
        f"down_revision = {down!r}",
        *textwrap.dedent(before).splitlines(),
        "def upgrade():",
        textwrap.indent(textwrap.dedent(upgrade), "    "),
    ]
    if downgrade is not None:
        lines += ["def downgrade():", textwrap.indent(textwrap.dedent(downgrade), "    ")]
    project.write(f"migrations/versions/{name}.py", "\n".join(lines) + "\n")
