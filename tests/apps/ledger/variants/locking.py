# ruff: noqa: RUF012
"""Needs the table for itself for a moment: a long transaction keeps it waiting."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("entries", "{previous}")]
    operations = [migrations.AddField("entry", "late", models.IntegerField(null=True))]
