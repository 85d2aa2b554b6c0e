# ruff: noqa: RUF012
"""Serial numbers are longer, and unique."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Change the column."""

    dependencies = [("payments", "0001_initial")]
    operations = [
        migrations.AlterField(
            model_name="device",
            name="serial",
            field=models.CharField(max_length=50, unique=True),
        ),
    ]
