# ruff: noqa: RUF012
"""The three migrations before it in one, as `squashmigrations` makes it."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Make the tables as they are now."""

    replaces = [
        ("payments", "0001_initial"),
        ("payments", "0002_serial"),
        ("payments", "0003_paid"),
    ]
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Device",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("serial", models.CharField(max_length=50, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("cents", models.PositiveIntegerField()),
                (
                    "device",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="payments.device"
                    ),
                ),
                ("paid", models.BooleanField(default=False)),
            ],
        ),
    ]
