# ruff: noqa: RUF012
"""A column that must have a value, which the release before doesn't give."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("entries", "{previous}")]
    operations = [
        migrations.AddField(
            "entry", "kind", models.CharField(max_length=8, default="x"), preserve_default=False
        )
    ]
