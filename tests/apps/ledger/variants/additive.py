# ruff: noqa: RUF012
"""A column that may be empty: compatible with the previous release, and undone easily."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("entries", "{previous}")]
    operations = [migrations.AddField("entry", "note", models.CharField(max_length=64, null=True))]
