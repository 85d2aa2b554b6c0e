# ruff: noqa: RUF012
"""A column that may be empty: the release before can live with it, and it is undone easily."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("entries", "{previous}")]
    operations = [migrations.AddField("entry", "note", models.CharField(max_length=64, null=True))]
