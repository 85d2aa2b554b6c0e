# ruff: noqa: RUF012
"""Fails when its first half is in the database already: it is not atomic."""

from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("entries", "{previous}")]
    operations = [
        migrations.AddField("entry", "half", models.CharField(max_length=8, null=True)),
        migrations.RunSQL("SELECT 1 / 0", migrations.RunSQL.noop),
    ]
