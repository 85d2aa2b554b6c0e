# ruff: noqa: RUF012
"""Takes its time, and holds no lock."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("entries", "{previous}")]
    operations = [migrations.RunSQL("SELECT pg_sleep(5)", migrations.RunSQL.noop)]
