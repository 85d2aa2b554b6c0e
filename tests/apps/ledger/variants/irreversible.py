# ruff: noqa: RUF012
"""Data are changed, and nothing says how they were."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def forget(apps: Apps, _editor: BaseDatabaseSchemaEditor) -> None:
    """Overwrite what can't be known afterwards."""
    apps.get_model("entries", "Report").objects.update(entries=-1)


class Migration(migrations.Migration):
    dependencies = [("entries", "{previous}")]
    operations = [migrations.RunPython(forget)]
