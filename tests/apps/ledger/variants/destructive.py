# ruff: noqa: RUF012
"""A column goes that the release before still reads and writes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("entries", "{previous}")]
    operations = [migrations.RemoveField("entry", "label")]
